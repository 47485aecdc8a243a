//! Long work: on a thread of its own, without the lock of the interpreter, stopped by Ctrl-C.

use pyo3::create_exception;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use sus_oracle::quote;
use sus_oracle::verdict::Progress;

create_exception!(sus_oracle, InputError, PyValueError, "Bad input, in one line.");

/// How often a signal is looked for.
const POLL: Duration = Duration::from_millis(50);
/// Work that takes longer shows its progress on a terminal.
const LONG: Duration = Duration::from_secs(3);
/// The stack of a main thread, which the recursive diagnosis is known to fit.
const STACK_BYTES: usize = 8 << 20;

/// The progress of a job, and whether it has to stop.
#[derive(Default)]
pub(crate) struct Watch {
    stage: Mutex<&'static str>,
    work: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
}

/// What the thread of a cancelled job unwinds with.
struct Cancelled;

impl Watch {
    /// Unwinds the thread if the job was cancelled. No message is printed.
    pub(crate) fn check(&self) {
        if self.cancelled.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Cancelled));
        }
    }

    fn line(&self) -> String {
        let stage = self.stage.lock().map_or("", |stage| *stage);
        let (work, done) = (self.work.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        if work == 0 {
            return stage.to_owned();
        }
        format!("{stage}, {:.0} %", 100.0 * done as f64 / work as f64)
    }
}

impl Progress for Watch {
    fn stage(&self, name: &'static str, work: u64) {
        self.check();
        if let Ok(mut stage) = self.stage.lock() {
            *stage = name;
        }
        self.work.store(work, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
    }

    fn done(&self, work: u64) {
        self.check();
        self.done.fetch_add(work, Ordering::Relaxed);
    }
}

/// The error of bad input: one printable line.
pub(crate) fn input_error(error: &dyn std::fmt::Display) -> PyErr {
    InputError::new_err(quote::message(&error.to_string()).to_string())
}

/// Runs work that reports to a [`Watch`]. Ctrl-C raises at once, and the work stops at its next report.
pub(crate) fn run<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&Watch) -> Result<T, E> + Send + 'static,
) -> PyResult<T> {
    let watch = Arc::new(Watch::default());
    let (send, mut receive) = channel();
    let seen = Arc::clone(&watch);
    let job = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&seen)));
        // Nobody listens to a job that was cancelled.
        let _ = send.send(result);
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(job)?;
    let mut shown = Shown::new();
    let result = loop {
        let receive = &mut receive;
        match py.detach(move || receive.recv_timeout(POLL)) {
            Ok(result) => break result,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err(
                    "the thread of the job ended without a result",
                ));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Err(interrupt) = py.check_signals() {
            watch.cancelled.store(true, Ordering::Relaxed);
            return Err(interrupt);
        }
        shown.update(&watch);
    };
    drop(shown);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(input_error(&error)),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(PyRuntimeError::new_err(format!("internal error: {}", quote::message(text))))
        }
    }
}

/// The line of progress on a terminal. It is removed when the work ends.
struct Shown {
    begin: Instant,
    terminal: bool,
    printed: bool,
}

impl Shown {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Shown { begin: Instant::now(), terminal, printed: false }
    }

    fn update(&mut self, watch: &Watch) {
        if self.terminal && self.begin.elapsed() > LONG {
            self.printed = true;
            let seconds = self.begin.elapsed().as_secs();
            let _ = write!(std::io::stderr(), "\r\x1b[Ksus_oracle: {} ({seconds} s)", watch.line());
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.printed {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
