//! What reaches the terminal: results on standard output, errors in one line on standard error, a spinner for long
//! work when somebody watches.

use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// Prints a result and gives the exit code. A reader that went away is no failure.
pub(crate) fn print(text: &str, code: u8) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(2, &error),
        _ => ExitCode::from(code),
    }
}

/// Prints one line on standard error and gives the exit code.
pub(crate) fn fail(code: u8, error: &dyn Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(code)
}

/// A spinner that names the stage and how long all of them took so far; silent when standard error is no terminal.
pub(crate) fn spinner(stage: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_message(stage);
    let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar that names what is being made; silent when standard error is no terminal.
pub(crate) fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    let bar = ProgressBar::new(0);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
