//! What a recipe may say of a kernel whose `P` or `dS` has 8 bits. Section 9 of `docs/bounds.md`.

use super::format::Format;
use super::recipe::{Delta, Gqa, Recipe};

impl Recipe {
    /// Whether `P` or `dS` has 8 bits: then the truth is that of the rounded ones. Section 9 of `docs/bounds.md`.
    #[must_use]
    pub fn has_8_bits(&self) -> bool {
        self.p.has_8_bits() || self.ds.has_8_bits()
    }

    /// The same kernel with `P` and `dS` in the accumulator's format.
    #[must_use]
    pub fn without_8_bits(&self) -> Self {
        let wide = |format: Format| if format.has_8_bits() { self.accumulator } else { format };
        Recipe { p: wide(self.p), ds: wide(self.ds), ..self.clone() }
    }

    /// What a kernel with 8 bits may not be: the derivation of its ranges is for no other.
    pub(super) fn check_8_bits(&self) -> Result<(), String> {
        for (key, scale) in [("p_scale", self.p_scale), ("ds_scale", self.ds_scale)] {
            if !(scale > 0.0 && (scale as f32).is_normal()) {
                return Err(format!("{key} = {scale} where a finite number above 0 is expected"));
            }
        }
        let others = [
            ("input", self.input),
            ("accumulator", self.accumulator),
            ("elementwise", self.elementwise),
            ("operands", self.operands),
            ("p_in_ds", self.p_in_ds),
            ("shifted", self.shifted),
            ("o", self.o),
            ("lse", self.lse),
            ("output", self.output),
        ];
        if let Some((key, format)) = others.iter().find(|(_, format)| format.has_8_bits()) {
            let name = format.name();
            return Err(format!("{key} = \"{name}\": only p and ds may be \"e4m3\" or \"e5m2\""));
        }
        if !self.has_8_bits() {
            return Ok(());
        }
        let fine = Format::F32.precision();
        let same = |format: Format| format == self.accumulator;
        let rules = [
            ("accumulator = \"f32\"", self.accumulator == Format::F32),
            ("tensor_cores = true", self.tensor_cores),
            ("elementwise, p_in_ds, shifted and lse = \"f32\"", {
                [self.elementwise, self.p_in_ds, self.shifted, self.lse].into_iter().all(same)
            }),
            ("input and operands of no fewer bits than \"f32\"", {
                self.input.precision() >= fine && self.operands.precision() >= fine
            }),
            ("normalised_p = true and row_maximum = true", self.normalised_p && self.row_maximum),
            ("no running totals", [self.running_dq, self.running_dk, self.running_dv] == [0; 3]),
            ("p and ds of 8 bits or \"f32\"", {
                [self.p, self.ds].into_iter().all(|format| format.has_8_bits() || same(format))
            }),
            ("delta = \"stored\"", self.delta == Delta::Stored),
            ("gqa = \"fused\"", self.gqa == Gqa::Fused),
            ("flush_to_zero = false", !self.flush_to_zero),
        ];
        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((rule, _)) => Err(format!("another setting where p or ds of 8 bits needs {rule}")),
            None => Ok(()),
        }
    }
}
