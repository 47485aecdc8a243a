//! Text from outside, as messages quote it: on one line, and never longer than a message can bear.

use std::fmt::{self, Display, Write};

/// Characters of a name or a value that a message quotes.
pub const MAX_TEXT: usize = 80;
/// Entries of a list that a message quotes.
pub const MAX_LIST: usize = 8;
/// Characters of the path of a file.
pub const MAX_PATH: usize = 240;
/// Characters of the words of another library, such as those of a JSON parser.
pub const MAX_WORDS: usize = 400;
/// Characters of a whole message.
pub const MAX_MESSAGE: usize = 900;

/// Text with at most this many characters of the original, control characters escaped.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a> {
    text: &'a str,
    most: usize,
}

/// A name or a value: its first [`MAX_TEXT`] characters, and how many more there are.
///
/// # Examples
/// ```
/// use sus_reference::quote;
/// assert_eq!(quote::text("dq").to_string(), "dq");
/// assert_eq!(quote::text("a\nb\u{1b}[31m").to_string(), r"a\nb\u{1b}[31m");
/// let long = quote::text(&"x".repeat(1000)).to_string();
/// assert_eq!(long, format!("{}… (920 more)", "x".repeat(80)));
/// ```
#[must_use]
pub fn text(text: &str) -> Quoted<'_> {
    Quoted { text, most: MAX_TEXT }
}

/// The words of another library, up to [`MAX_WORDS`] characters.
#[must_use]
pub fn words(text: &str) -> Quoted<'_> {
    Quoted { text, most: MAX_WORDS }
}

/// A whole message, up to [`MAX_MESSAGE`] characters.
#[must_use]
pub fn message(text: &str) -> Quoted<'_> {
    Quoted { text, most: MAX_MESSAGE }
}

/// A whole text of any length, for where nothing may be cut.
///
/// # Examples
/// ```
/// use sus_reference::quote;
/// assert_eq!(quote::all("a\u{202e}b").to_string(), r"a\u{202e}b");
/// assert_eq!(quote::all(&"x".repeat(2000)).to_string().len(), 2000);
/// ```
#[must_use]
pub fn all(text: &str) -> Quoted<'_> {
    Quoted { text, most: usize::MAX }
}

/// A path: its last [`MAX_PATH`] characters, as the end names the file.
///
/// # Examples
/// ```
/// use sus_reference::quote;
/// assert_eq!(quote::path("runs/case\n1.safetensors".as_ref()), r"runs/case\n1.safetensors");
/// let long = quote::path(format!("{}/case.safetensors", "x".repeat(4000)).as_ref());
/// assert!(long.starts_with('…') && long.ends_with("/case.safetensors") && long.len() < 300);
/// ```
#[must_use]
pub fn path(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let more = text.chars().count().saturating_sub(MAX_PATH);
    let start = text.char_indices().nth(more).map_or(0, |(at, _)| at);
    let all = Quoted { text: &text[start..], most: MAX_PATH };
    if more > 0 { format!("…{all}") } else { all.to_string() }
}

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.text.chars().take(self.most) {
            if is_printable(c) { f.write_char(c)? } else { write!(f, "{}", c.escape_default())? }
        }
        match self.text.chars().count().saturating_sub(self.most) {
            0 => Ok(()),
            more => write!(f, "… ({more} more)"),
        }
    }
}

/// Neither a control character nor one that changes lines or the direction of writing.
fn is_printable(c: char) -> bool {
    let moves =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    !(c.is_control() || moves || c == '\u{feff}')
}

/// A list: its first [`MAX_LIST`] entries, and how many more there are.
///
/// # Examples
/// ```
/// use sus_reference::quote;
/// assert_eq!(quote::list(&[1, 2, 3]), "[1, 2, 3]");
/// let many: Vec<usize> = (0..1000).collect();
/// assert_eq!(quote::list(&many), "[0, 1, 2, 3, 4, 5, 6, 7, … (992 more)]");
/// ```
#[must_use]
pub fn list<T: Display>(list: &[T]) -> String {
    format!("[{}]", entries(list))
}

/// The entries of a [`list`], without its brackets.
#[must_use]
pub fn entries<T: Display>(list: &[T]) -> String {
    let shown: Vec<String> =
        list.iter().take(MAX_LIST).map(|entry| text(&entry.to_string()).to_string()).collect();
    let mut text = shown.join(", ");
    if list.len() > MAX_LIST {
        let _ = write!(text, ", … ({} more)", list.len() - MAX_LIST);
    }
    text
}
