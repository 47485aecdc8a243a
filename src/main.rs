//! The command: parse, call the library, print, exit.
//!
//! Exit codes: 0 PASS or done, 1 FAIL, 2 bad input or usage, 3 REFUSED, 4 INCONCLUSIVE.

mod command;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use command::{
    analyze, bench, check, choose, fixtures, grad, merge, power, projections, selftest, shell,
    terminal,
};
use std::process::ExitCode;

/// Exit code of bad input and bad usage.
const BAD_INPUT: u8 = 2;

/// The reference and test oracle for attention backward passes, dense and sparse-stochastic (SUS backprop).
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Number of threads [default: all processors]; results do not depend on it
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

const AFTER_HELP: &str = "\
Gradients of a problem, here a real attention layer that comes with the source:
  sus-oracle grad fixtures/real/layer2.safetensors --c 30 --out gradients.safetensors
The verdict on a kernel's results, here of a wrong kernel:
  sus-oracle check fixtures/broken/case.safetensors fixtures/broken/candidate.safetensors

A problem is a safetensors file with q, k, v, do (and dlse, bias, sink), floats of any width.
Exit codes: 0 PASS or done, 1 FAIL, 2 bad input or usage, 3 REFUSED, 4 INCONCLUSIVE.";

#[derive(Subcommand)]
enum Command {
    Grad(grad::Arguments),
    Fixtures(fixtures::Arguments),
    Analyze(analyze::Arguments),
    ChooseC(choose::Arguments),
    Check(check::Arguments),
    Power(power::Arguments),
    Projections(projections::Arguments),
    Merge(merge::Arguments),
    Selftest(selftest::Arguments),
    Completions(shell::Completions),
    Man(shell::Man),
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    if let Some(threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
        if let Err(error) = pool.build_global() {
            return terminal::fail(BAD_INPUT, &error);
        }
    }
    let outcome = match cli.command {
        Command::Fixtures(arguments) => fixtures::run(arguments),
        Command::Analyze(arguments) => analyze::run(arguments).map(|text| (text, 0)),
        Command::ChooseC(arguments) => choose::run(arguments).map(|text| (text, 0)),
        Command::Grad(arguments) => grad::run(arguments).map(|text| (text, 0)),
        Command::Check(arguments) => check::run(arguments),
        Command::Projections(arguments) => projections::run(arguments).map(|text| (text, 0)),
        Command::Merge(arguments) => merge::run(arguments),
        Command::Power(arguments) => power::run(arguments).map(|text| (text, 0)),
        Command::Selftest(arguments) => selftest::run(&arguments),
        Command::Completions(arguments) => Ok((shell::completions(&arguments, Cli::command()), 0)),
        Command::Man(arguments) => match shell::man(&arguments, Cli::command()) {
            Ok(page) => Ok((page, 0)),
            Err(error) => return terminal::fail(BAD_INPUT, &error),
        },
        Command::Bench(arguments) => bench::run(arguments).map(|text| (text, 0)),
    };
    match outcome {
        Ok((text, code)) => terminal::print(&text, code),
        Err(error) => terminal::fail(BAD_INPUT, &error),
    }
}

/// Help goes to standard output and is no error; anything else is one line.
fn usage_error(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(BAD_INPUT)
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim);
            let message: Vec<&str> = lines
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
                .filter(|line| !line.is_empty())
                .collect();
            let message = message.join(" ");
            terminal::fail(BAD_INPUT, &message.strip_prefix("error: ").unwrap_or(&message))
        }
    }
}
