//! Names that other libraries give to the results of an attention layer.

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
