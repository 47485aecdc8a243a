//! Tensors that are read or written elsewhere: other heads, rows and features, other orders of the axes in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Where an element comes from; `None` is a zero.
pub(crate) type From = Arc<dyn Fn([usize; 4]) -> Option<[usize; 4]> + Send + Sync>;

/// A tensor with every element from elsewhere.
#[derive(Clone)]
pub(crate) struct Map {
    /// What follows the name of the tensor.
    pub(crate) text: String,
    pub(crate) from: From,
}

/// Tile sizes of kernels.
pub(crate) const TILES: [usize; 5] = [8, 16, 32, 64, 128];

impl Map {
    fn new(
        text: impl Into<String>,
        from: impl Fn([usize; 4]) -> Option<[usize; 4]> + Send + Sync + 'static,
    ) -> Self {
        Map { text: text.into(), from: Arc::new(from) }
    }

    /// The mapped elements at some flat indices.
    pub(crate) fn at(&self, shape: [usize; 4], data: &[f64], elements: &[usize]) -> Vec<f64> {
        let read =
            |&at: &usize| (self.from)(index(shape, at)).map_or(0.0, |from| data[flat(shape, from)]);
        elements.iter().map(read).collect()
    }

    /// All mapped elements.
    pub(crate) fn all(&self, shape: [usize; 4], data: &[f64]) -> Vec<f64> {
        (0..data.len())
            .map(|at| (self.from)(index(shape, at)).map_or(0.0, |from| data[flat(shape, from)]))
            .collect()
    }
}

/// The index of a flat position.
pub(crate) fn index(shape: [usize; 4], at: usize) -> [usize; 4] {
    let (row, d) = (at / shape[3], at % shape[3]);
    let (head, n) = (row / shape[2], row % shape[2]);
    [head / shape[1], head % shape[1], n, d]
}

/// The flat position of an index.
pub(crate) fn flat(shape: [usize; 4], [b, h, n, d]: [usize; 4]) -> usize {
    ((b * shape[1] + h) * shape[2] + n) * shape[3] + d
}

/// The position of an index in memory of another order of the axes.
fn address(shape: [usize; 4], order: [usize; 4], index: [usize; 4]) -> usize {
    order.iter().fold(0, |at, &axis| at * shape[axis] + index[axis])
}

/// The index at a position in memory of another order of the axes.
fn at_address(shape: [usize; 4], order: [usize; 4], mut at: usize) -> [usize; 4] {
    let mut index = [0; 4];
    for &axis in order.iter().rev() {
        (index[axis], at) = (at % shape[axis], at / shape[axis]);
    }
    index
}

/// The orders of the axes that differ in memory from the row-major one.
pub(crate) fn orders(shape: [usize; 4]) -> Vec<[usize; 4]> {
    let mut seen = BTreeSet::from([long_axes(shape, [0, 1, 2, 3])]);
    let mut orders = Vec::new();
    for order in permutations() {
        if seen.insert(long_axes(shape, order)) {
            orders.push(order);
        }
    }
    orders
}

fn long_axes(shape: [usize; 4], order: [usize; 4]) -> Vec<usize> {
    order.into_iter().filter(|&axis| shape[axis] > 1).collect()
}

/// The orders of four axes, those that kernels use first.
fn permutations() -> Vec<[usize; 4]> {
    let mut all = vec![[0, 2, 1, 3], [2, 0, 1, 3], [0, 1, 3, 2], [3, 2, 1, 0]];
    for a in 0..4 {
        for b in (0..4).filter(|&b| b != a) {
            for c in (0..4).filter(|&c| c != a && c != b) {
                let order = [a, b, c, 6 - a - b - c];
                if !all.contains(&order) {
                    all.push(order);
                }
            }
        }
    }
    all
}

/// An order of the axes as a shape.
pub(crate) fn order_name(shape: [usize; 4], order: [usize; 4]) -> String {
    let names = ["B", "H", "N", "D"];
    let shown = order.iter().filter(|&&axis| axis != 3 || shape[3] > 1);
    let words: Vec<&str> = shown.map(|&axis| names[axis]).collect();
    format!("[{}]", words.join(","))
}

/// Row-major data that are read as if their memory had this order.
pub(crate) fn read_in_order(shape: [usize; 4], order: [usize; 4]) -> Map {
    let text = format!("read as {} in memory", order_name(shape, order));
    Map::new(text, move |at| Some(index(shape, address(shape, order, at))))
}

/// Data whose memory has this order, read as row-major.
pub(crate) fn stored_in_order(shape: [usize; 4], order: [usize; 4]) -> Map {
    let text = format!("{} in memory, under the row-major shape", order_name(shape, order));
    Map::new(text, move |at| Some(at_address(shape, order, flat(shape, at))))
}

/// Both ways to confuse the orders of the axes.
pub(crate) fn memory_orders(shape: [usize; 4]) -> Vec<Map> {
    let both = |order| [stored_in_order(shape, order), read_in_order(shape, order)];
    orders(shape).into_iter().flat_map(both).collect()
}

/// Other heads, sequences and rows.
pub(crate) fn row_maps(shape: [usize; 4], of: &str) -> Vec<Map> {
    let [batch, heads, rows, _] = shape;
    let mut maps = Vec::new();
    if heads > 1 {
        maps.push(Map::new("of head 0 for all heads", |[b, _, n, d]| Some([b, 0, n, d])));
        maps.push(Map::new("of the previous head", move |[b, h, n, d]| {
            Some([b, (h + heads - 1) % heads, n, d])
        }));
        maps.push(Map::new("of the next head", move |[b, h, n, d]| {
            Some([b, (h + 1) % heads, n, d])
        }));
        if heads.is_multiple_of(2) && heads > 2 {
            maps.push(Map::new("of the other head of each pair", |[b, h, n, d]| {
                Some([b, h ^ 1, n, d])
            }));
        }
        if heads > 2 {
            maps.push(Map::new("with the heads in the opposite order", move |[b, h, n, d]| {
                Some([b, heads - 1 - h, n, d])
            }));
        }
    }
    if batch > 1 {
        maps.push(Map::new("of sequence 0 for all sequences", |[_, h, n, d]| Some([0, h, n, d])));
        maps.push(Map::new("of the next sequence", move |[b, h, n, d]| {
            Some([(b + 1) % batch, h, n, d])
        }));
        if batch > 2 {
            maps.push(Map::new("of the previous sequence", move |[b, h, n, d]| {
                Some([(b + batch - 1) % batch, h, n, d])
            }));
        }
    }
    if rows > 1 {
        let shifted = |text: String, by: usize| {
            Map::new(text, move |[b, h, n, d]: [usize; 4]| (n >= by).then(|| [b, h, n - by, d]))
        };
        let ahead = |text: String, by: usize| {
            Map::new(text, move |[b, h, n, d]: [usize; 4]| {
                (n + by < rows).then(|| [b, h, n + by, d])
            })
        };
        maps.push(shifted(format!("of the previous {of}"), 1));
        maps.push(ahead(format!("of the next {of}"), 1));
        maps.push(Map::new(format!("of the previous {of}, in a ring"), move |[b, h, n, d]| {
            Some([b, h, (n + rows - 1) % rows, d])
        }));
        maps.push(Map::new(format!("of the next {of}, in a ring"), move |[b, h, n, d]| {
            Some([b, h, (n + 1) % rows, d])
        }));
        maps.push(Map::new(format!("of {of} 0 throughout"), |[b, h, _, d]| Some([b, h, 0, d])));
        let plural = if of == "query" { "queries" } else { "keys" };
        maps.push(Map::new(format!("with the {plural} in the opposite order"), move |at| {
            Some([at[0], at[1], rows - 1 - at[2], at[3]])
        }));
        for tile in TILES.into_iter().filter(|&tile| tile < rows) {
            maps.push(Map::new(
                format!("of {of} n mod {tile}, the first tile's"),
                move |[b, h, n, d]| Some([b, h, n % tile, d]),
            ));
            maps.push(Map::new(
                format!("of the first {of} of each tile of {tile}"),
                move |[b, h, n, d]| Some([b, h, n / tile * tile, d]),
            ));
            maps.push(shifted(format!("of the previous tile of {tile} {plural}"), tile));
            maps.push(ahead(format!("of the next tile of {tile} {plural}"), tile));
            if !rows.is_multiple_of(tile) {
                let whole = rows / tile * tile;
                maps.push(Map::new(
                    format!("of whole tiles of {tile} {plural} alone, zero behind them"),
                    move |[b, h, n, d]| (n < whole).then_some([b, h, n, d]),
                ));
            }
        }
        maps.push(Map::new(format!("without the last {of}, which is zero"), move |at| {
            (at[2] + 1 < rows).then_some(at)
        }));
    }
    maps
}

/// Other features of the same row.
pub(crate) fn feature_maps(shape: [usize; 4]) -> Vec<Map> {
    let features = shape[3];
    if features < 2 {
        return Vec::new();
    }
    let mut maps = vec![
        Map::new("with each feature from its left neighbour", move |[b, h, n, d]| {
            Some([b, h, n, (d + features - 1) % features])
        }),
        Map::new("with each feature from its right neighbour", move |[b, h, n, d]| {
            Some([b, h, n, (d + 1) % features])
        }),
        Map::new("with the features in the opposite order", move |[b, h, n, d]| {
            Some([b, h, n, features - 1 - d])
        }),
    ];
    if features.is_multiple_of(2) && features > 2 {
        let half = features / 2;
        maps.push(Map::new("with the halves of the features exchanged", move |[b, h, n, d]| {
            Some([b, h, n, (d + half) % features])
        }));
        maps.push(Map::new("with its features as halves, not in pairs", move |[b, h, n, d]| {
            Some([b, h, n, d % 2 * half + d / 2])
        }));
        maps.push(Map::new("with its features in pairs, not as halves", move |[b, h, n, d]| {
            Some([b, h, n, d % half * 2 + d / half])
        }));
        maps.push(Map::new("with the features of each pair exchanged", move |[b, h, n, d]| {
            Some([b, h, n, d ^ 1])
        }));
    }
    for width in [8, 16, 32, 64, 96, 128].into_iter().filter(|&width| width < features) {
        maps.push(Map::new(
            format!("with its first {width} features alone, zero behind them"),
            move |at| (at[3] < width).then_some(at),
        ));
    }
    maps
}

/// All maps of a tensor, the usual ones first.
pub(crate) fn maps(shape: [usize; 4], of: &str) -> Vec<Map> {
    let mut maps = memory_orders(shape);
    maps.extend(row_maps(shape, of));
    maps.extend(feature_maps(shape));
    maps
}
