//! Names that other libraries give to the operands, the settings and the results of an attention layer.

use sus_reference::TensorName;

/// The result that a name of another library means; `None` for the names of this project and for names that mean nothing here.
///
/// # Examples
/// ```
/// use sus_files::foreign_result;
/// use sus_reference::TensorName;
/// for name in ["q.grad", "grad_q", "dQ", "dq_", "d_query", "grad.query", "query_grad"] {
///     assert_eq!(foreign_result(name), Some(TensorName::Dq), "{name}");
/// }
/// assert_eq!(foreign_result("softmax_lse"), Some(TensorName::Lse));
/// assert_eq!((foreign_result("dq"), foreign_result("queue")), (None, None));
/// ```
#[must_use]
pub fn foreign_result(name: &str) -> Option<TensorName> {
    if name.parse::<TensorName>().is_ok() || name.len() > 40 {
        return None;
    }
    let letters = |name: &str| -> String {
        let letters = name.chars().filter(|c| !matches!(c, '.' | '_' | '-' | '/' | ' '));
        letters.flat_map(char::to_lowercase).collect()
    };
    let plain = letters(name);
    if ["o", "out", "output", "attnout", "attnoutput", "attentionoutput"].contains(&&*plain) {
        return Some(TensorName::O);
    }
    if ["lse", "softmaxlse", "logsumexp", "logsumexps"].contains(&&*plain) {
        return Some(TensorName::Lse);
    }
    // What is left of a gradient's name is that of its input; "dq" is the shortest, and "d" alone marks the front only.
    let marks = ["gradients", "gradient", "grads", "grad"];
    let end = marks.iter().find_map(|mark| plain.strip_suffix(mark));
    let begin = marks.iter().find_map(|mark| plain.strip_prefix(mark));
    let input = end.or(begin).or_else(|| plain.strip_prefix('d'))?;
    let input = input.strip_prefix("of").unwrap_or(input);
    Some(match input {
        "q" | "query" | "queries" => TensorName::Dq,
        "k" | "key" | "keys" => TensorName::Dk,
        "v" | "value" | "values" => TensorName::Dv,
        "bias" | "attnbias" | "b" => TensorName::Dbias,
        "sink" | "sinks" => TensorName::Dsink,
        _ => return None,
    })
}

/// Names of tensors of other libraries, letters and digits alone, and what to write instead.
const OPERANDS: &[(&[&str], &str)] = &[
    (&["query", "queries", "xq"], "write it as q"),
    (&["key", "keys", "xk"], "write it as k"),
    (&["value", "values", "xv"], "write it as v"),
    (&["dout", "gradoutput", "gradout", "doutput", "outgrad", "g"], "write it as do"),
    (&["gradlse", "dsoftmaxlse", "lsegrad"], "write it as dlse"),
    (&["attnbias", "positionbias", "scorebias", "b"], "write it as bias"),
    (&["sinks", "attentionsink", "attnsink", "softmaxsink"], "write it as sink"),
    (
        &["mask", "attentionmask", "boolmask"],
        "write it as attn_mask [B or 1, Hq or 1, Nq or 1, Nk], non-zero where the key may be seen",
    ),
    (
        &["keypaddingmask", "paddingmask"],
        "write lengths_k [B], or attn_mask, non-zero where the key may be seen",
    ),
    (&["blocksparsemask", "blocklayout"], "write it as block_mask, with the setting block: [m, n]"),
    (&["cuseqlens", "cuseqlen"], "write cu_seqlens_q and cu_seqlens_k, [S + 1] each"),
    (
        &["seqlensq", "seqlenq", "actualseqlenq"],
        "write lengths_q [B], or seqused_q beside cu_seqlens_q",
    ),
    (
        &["seqlensk", "seqlenk", "seqlenkv", "seqlenskv", "actualseqlenkv"],
        "write lengths_k [B], or seqused_k beside cu_seqlens_k",
    ),
    (
        &["blocktable", "pagetable", "blocktables"],
        "write the keys and the values in their order: pages are not read",
    ),
    (&["slopes", "alibi"], "write it as alibi_slopes [Hq] or [B, Hq]"),
    (
        &["dropmask", "dropout"],
        "write it as dropout_mask, non-zero where the weight is kept, with the setting dropout_p",
    ),
    (&["softmaxlse", "logsumexp"], "write it as lse, natural logarithms [B, Hq, Nq]"),
    (&["out", "output", "attnoutput"], "write it as o"),
    (
        &["topkindices", "topk", "blockindices", "kvindices"],
        "write it as indices [B or 1, Hq or 1, Nq, T], keys and not blocks",
    ),
];

/// Names of settings of other libraries, letters and digits alone, and what to write instead.
const SETTINGS: &[(&[&str], &str)] = &[
    (&["iscausal", "causalmask"], "write it as causal"),
    (&["smscale", "softmaxscale", "attnscale", "scalefactor"], "write it as scale"),
    (
        &["windowsize", "slidingwindow", "localwindowsize"],
        "write it as window: [left, right], both ends included, null for no limit",
    ),
    (&["logitssoftcap", "softcapping", "attnlogitsoftcapping", "logitcap"], "write it as softcap"),
    (&["blocksize", "blockshape"], "write it as block: [m, n], queries and keys of a block"),
    (&["dropout", "dropoutrate", "pdrop", "dropoutprobability"], "write it as dropout_p"),
];

/// What to write instead of a tensor's name in a problem; `None` for names that mean nothing here.
///
/// # Examples
/// ```
/// use sus_files::foreign_operand;
/// assert_eq!(foreign_operand("softmax_lse"), Some("write it as lse, natural logarithms [B, Hq, Nq]"));
/// assert_eq!(foreign_operand("weights"), None);
/// ```
#[must_use]
pub fn foreign_operand(name: &str) -> Option<&'static str> {
    advice(OPERANDS, name).or_else(|| {
        foreign_result(name).map(|_| "a result, which stands in a candidate and not in a problem")
    })
}

/// What to write instead of a key of the settings.
#[must_use]
pub fn foreign_setting(key: &str) -> Option<&'static str> {
    advice(SETTINGS, key)
}

fn advice(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    if name.len() > 40 {
        return None;
    }
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).flat_map(char::to_lowercase).collect();
    table.iter().find(|(names, _)| names.contains(&plain.as_str())).map(|&(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProblemFile, Settings, TensorFile};

    /// Each name of each row, in the writing of its library, leads to the row's sentence, in the message of the reader.
    #[test]
    fn every_foreign_name_gets_the_sentence_that_says_what_to_write() {
        for (names, sentence) in OPERANDS {
            for name in *names {
                let mut file = TensorFile::default();
                file.arrays.insert((*name).into(), crate::Array::f32(&[1], vec![0.0]));
                let said = ProblemFile::from_tensors(file, Settings::default()).unwrap_err();
                assert_eq!(said.to_string(), format!("tensor '{name}': {sentence}"));
            }
        }
        for (names, sentence) in SETTINGS {
            for name in *names {
                let said = Settings::from_json(&format!("{{\"{name}\":1}}")).unwrap_err();
                assert_eq!(said.to_string(), format!("metadata key '{name}': {sentence}"));
            }
        }
        assert_eq!(foreign_operand("Block-Table"), foreign_operand("blocktable"));
        // Our own names are no foreign ones.
        for name in
            ["attn_mask", "block_mask", "indices", "dropout_mask", "alibi_slopes", "lengths_q"]
        {
            assert_eq!(foreign_operand(name), None, "{name}");
        }
        assert_eq!(foreign_setting("causal").or(foreign_setting("dropout_p")), None);
    }
}
