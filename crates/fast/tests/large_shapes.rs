//! Problems that are larger than a tile.

use crate::common::{Shape, shapes};
use proptest::prelude::*;
use sus_reference::mask::{Segments, Window};

/// Any number of features, and those for which there are kernels of their own.
fn features() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1..=40_usize, 1 => Just(64), 1 => Just(128)]
}

/// Problems over several tiles, none a multiple of any, and features that fill vectors or do not.
pub(crate) fn large_shapes() -> impl Strategy<Value = Shape> {
    let sizes = (
        1..=2_usize,
        1..=2_usize,
        1..=3_usize,
        1..=230_usize,
        1..=430_usize,
        features(),
        features(),
    );
    (shapes(6, 6), sizes, any::<[bool; 4]>()).prop_map(
        |(shape, sizes, [window, segments, bias, _])| {
            let (batch, key_heads, group, queries, keys, features, value_features) = sizes;
            let ends = |n: usize| vec![0, n / 3, n / 3, n];
            let options = shape
                .options
                .clone()
                .with_scale(shape.options.scale.map(|scale| scale / 4.0))
                .with_window(
                    window.then_some(Window { left: Some(queries as u64 / 2), right: Some(9) }),
                )
                .with_segments(
                    segments.then(|| Segments { queries: ends(queries), keys: ends(keys) }),
                );
            Shape {
                batch,
                key_heads,
                group,
                queries,
                keys,
                features,
                value_features,
                options,
                bias: shape.bias.filter(|_| bias),
                ..shape
            }
        },
    )
}
