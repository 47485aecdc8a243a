//! `sus-oracle completions` and `sus-oracle man`: the command described to a shell and to `man`.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io;

/// Print the completion script of a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle completions bash > ~/.local/share/bash-completion/completions/sus-oracle
  sus-oracle completions zsh > ~/.zfunc/_sus-oracle
  sus-oracle completions fish > ~/.config/fish/completions/sus-oracle.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print the manual page of sus-oracle or of one of its commands
#[derive(Args)]
#[command(after_help = "\
Examples:
  sus-oracle man > ~/.local/share/man/man1/sus-oracle.1
  sus-oracle man grad | man -l -")]
pub(crate) struct Man {
    /// A command [default: sus-oracle itself]
    #[arg(value_name = "COMMAND")]
    of: Option<String>,
}

/// The script that completes the words of `command` in a shell.
pub(crate) fn completions(arguments: &Completions, mut command: Command) -> String {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The page in roff.
pub(crate) fn man(arguments: &Man, command: Command) -> io::Result<String> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let page = match &arguments.of {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            let known: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
            let text = format!("command: expected one of {}, found '{name}'", known.join(", "));
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?,
    };
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff)?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}
