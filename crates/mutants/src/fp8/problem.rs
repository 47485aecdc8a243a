//! A problem whose operands are stored in E4M3 with scales.

use sus_bounds::Format;
use sus_files::{Array, Settings, TensorFile};
use sus_reference::sus::uniform::philox4x32_10;

/// The numbers that share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleBy {
    /// All of the tensor.
    Tensor,
    /// A head.
    Head,
    /// So many rows of a head.
    Rows(usize),
}

/// One operand: codes, as numbers, and the scale of each row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub(super) shape: [usize; 4],
    /// The stored numbers.
    pub(super) stored: Vec<f32>,
    /// The scale of each row.
    pub(super) scales: Vec<f32>,
    /// The scales as a file has them, and their shape.
    in_file: (Vec<usize>, Vec<f32>),
}

/// A problem of 8 bits: `q`, `k`, `v`, `do` and the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Fp8Problem {
    pub(super) q: Operand,
    pub(super) k: Operand,
    pub(super) v: Operand,
    pub(super) g: Operand,
    /// A dropout mask `[B, H, Nq, Nk]` beside `dropout_p` of the settings.
    pub(super) kept: Option<Vec<bool>>,
    /// The settings: `p_scale`, `ds_scale`, `causal`, `dropout_p` are followed.
    pub settings: Settings,
}

impl Fp8Problem {
    /// Numbers of about a normal distribution, `[B, H, Nq, Nk, D]`, the queries `peak` times as large. With `p_scale` 448 and a
    /// `ds_scale` of 300, which is no power of two.
    #[must_use]
    pub fn drawn([b, h, nq, nk, d]: [usize; 5], by: ScaleBy, peak: f64, seed: u32) -> Self {
        let operand = |which: u32, n: usize, factor: f64| {
            let numbers: Vec<f64> = (0..b * h * n * d)
                .map(|at| factor * drawn_number(at as u32, which, seed))
                .collect();
            Operand::quantised([b, h, n, d], &numbers, by)
        };
        let settings = Settings::default().with_p_scale(448.0).with_ds_scale(300.0);
        let (q, k) = (operand(0, nq, peak), operand(1, nk, 1.0));
        let (v, g) = (operand(2, nk, 1.0), operand(3, nq, 1.0));
        Fp8Problem { q, k, v, g, kept: None, settings }
    }

    /// The same with a dropout mask that keeps about so much.
    #[must_use]
    pub fn with_dropout(mut self, p: f64) -> Self {
        let [b, h, nq, _] = self.q.shape;
        let count = b * h * nq * self.k.shape[2];
        let word = |at: usize| philox4x32_10([at as u32, 9, 0, 0], [1, 2])[0];
        self.kept = Some((0..count).map(|at| f64::from(word(at)) >= p * 4_294_967_296.0).collect());
        self.settings = self.settings.with_dropout_p(p);
        self
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        Fp8Problem { settings, ..self }
    }

    /// The problem file.
    #[must_use]
    pub fn file(&self) -> TensorFile {
        let mut file =
            TensorFile { metadata: Some(self.settings.to_json()), ..TensorFile::default() };
        let all = [("q", &self.q), ("k", &self.k), ("v", &self.v), ("do", &self.g)];
        for (name, operand) in all {
            let stored = operand.stored.iter().map(|&x| f64::from(x)).collect();
            let codes = Array::e4m3(&operand.shape, stored);
            let (shape, scales) = &operand.in_file;
            let scales = scales.iter().map(|&x| f64::from(x)).collect();
            file.arrays.insert(name.into(), codes);
            file.arrays.insert(format!("{name}_scale"), Array::f32(shape, scales));
        }
        if let Some(kept) = &self.kept {
            let [b, h, nq, _] = self.q.shape;
            let shape = [b, h, nq, self.k.shape[2]];
            file.arrays.insert("dropout_mask".into(), Array::flags(&shape, kept));
        }
        file
    }
}

/// Problems that tell the bugs apart, by name.
#[must_use]
pub fn problems() -> Vec<(&'static str, Fp8Problem)> {
    let with = |problem: Fp8Problem, change: fn(Settings) -> Settings| {
        let settings = change(problem.settings.clone());
        problem.with_settings(settings)
    };
    let by_rows = Fp8Problem::drawn([1, 2, 64, 64, 64], ScaleBy::Rows(16), 1.0, 1);
    let causal = Fp8Problem::drawn([1, 2, 96, 96, 64], ScaleBy::Tensor, 1.0, 2);
    let peaked = Fp8Problem::drawn([1, 2, 64, 96, 64], ScaleBy::Head, 3.0, 3);
    let small = Fp8Problem::drawn([1, 2, 64, 64, 32], ScaleBy::Head, 2.0, 4);
    vec![
        ("by_rows", by_rows.clone()),
        ("causal", with(causal, |s| s.with_causal(true))),
        ("saturated", with(peaked, |s| s.with_p_scale(1024.0).with_ds_scale(40000.0))),
        ("unscaled", with(small, |s| s.with_p_scale(1.0).with_ds_scale(1.0))),
        ("dropout", by_rows.with_dropout(0.25)),
    ]
}

impl Operand {
    /// The codes of numbers whose largest is stored as 448.
    fn quantised(shape: [usize; 4], numbers: &[f64], by: ScaleBy) -> Self {
        let [b, h, n, d] = shape;
        let rows = match by {
            ScaleBy::Tensor => b * h * n,
            ScaleBy::Head => n,
            ScaleBy::Rows(rows) => rows,
        };
        let of_block = |block: &[f64]| {
            let amax = block.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
            ((amax / 448.0) as f32).max(f32::MIN_POSITIVE)
        };
        let by_block: Vec<f32> = numbers.chunks((rows * d).max(1)).map(of_block).collect();
        let scales: Vec<f32> = (0..b * h * n).map(|row| by_block[row / rows.max(1)]).collect();
        let stored = numbers
            .iter()
            .enumerate()
            .map(|(at, x)| Format::E4m3.round(x / f64::from(scales[at / d])) as f32)
            .collect();
        let shape_of_scales = match by {
            ScaleBy::Tensor => vec![1],
            ScaleBy::Head => vec![b, h],
            ScaleBy::Rows(rows) => vec![b, h, n / rows],
        };
        Operand { shape, stored, scales, in_file: (shape_of_scales, by_block) }
    }
}

/// About a normal number: the sum of four uniform ones, of deviation 1.
fn drawn_number(at: u32, which: u32, seed: u32) -> f64 {
    let words = philox4x32_10([at, which, 0, 0], [seed, 8]);
    let sum: f64 = words.iter().map(|&word| f64::from(word) / 4_294_967_296.0 - 0.5).sum();
    sum * libm::sqrt(3.0)
}
