//! What reaches the terminal: results on standard output, errors in one line on standard error, a spinner for long
//! work when somebody watches.

use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use sus_oracle::quote;
use sus_oracle::verdict::Progress;

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
    let error = error.to_string();
    let _ = writeln!(std::io::stderr(), "error: {}", quote::message(&error));
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

/// Of work that takes longer than this, the time that is left is shown.
const LONG: Duration = Duration::from_secs(3);

/// A spinner that also shows how much of a stage is done, and about how long the rest takes if that is worth telling.
pub(crate) struct Watched {
    bar: ProgressBar,
    of: String,
}

impl Watched {
    /// Of work on something.
    pub(crate) fn new(of: String) -> Self {
        Watched { bar: spinner(""), of }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Watched {
    fn stage(&self, name: &'static str, work: u64) {
        let how_far = if work > 0 { ", {percent} %{left}" } else { "" };
        let left = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if state.elapsed() > LONG && state.pos() > 0 {
                let _ = write!(out, ", about {:#} left", HumanDuration(state.eta()));
            }
        };
        if let Ok(style) =
            ProgressStyle::with_template(&format!("{{spinner}} {{msg}}{how_far} ({{elapsed}})"))
        {
            self.bar.set_style(style.with_key("left", left));
        }
        self.bar.set_length(work);
        self.bar.set_position(0);
        self.bar.reset_eta();
        self.bar.set_message(format!("{name}, {}", self.of));
    }

    fn done(&self, work: u64) {
        self.bar.inc(work);
    }
}
