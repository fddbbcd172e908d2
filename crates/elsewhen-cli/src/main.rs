//! The `elsewhen` command: arguments in, one call of the library, an exit status out.

#![forbid(unsafe_code)]

mod args;
mod doctor;
mod front;
mod request;
mod supervisor;

use args::{Cli, Sub};
use clap::{CommandFactory, Parser};
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Our own failure: bad arguments, no permission, no support here.
const FAILURE: u8 = 125;
/// The program exists but cannot be run, or was refused.
const CANNOT_RUN: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let inherited = elsewhen_linux::process::inherited_descriptors();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return fail(&one_line(&error)),
        Err(help) => {
            // Help and version, to standard output; nothing is left to do where that is closed.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match cli.command {
        Sub::Run(run) => match request::of_run(&run) {
            Ok(spec) => front::run(&spec, &run.command, &inherited),
            Err(error) => fail(&error.to_string()),
        },
        Sub::Faketime(faketime) => match request::of_faketime(&faketime) {
            Ok(spec) => front::run(&spec, &faketime.command, &inherited),
            Err(error) => fail(&error.to_string()),
        },
        Sub::Doctor(doctor) => doctor::run(&doctor),
        Sub::Clocks => doctor::print_clocks(),
        Sub::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "elsewhen", &mut script);
            print(&script)
        }
        Sub::Man => {
            let mut page = Vec::new();
            match args::write_manual(&mut page) {
                Ok(()) => print(&page),
                Err(error) => fail(&format!("write the manual: {error}")),
            }
        }
    }
}

/// Writes a text to standard output. A reader that has gone has read enough.
fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(&format!("write to standard output: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

/// Reports a failure of ours.
fn fail(message: &str) -> ExitCode {
    eprintln!("elsewhen: {message}");
    ExitCode::from(FAILURE)
}

/// The first line of what clap says, in our style.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("bad arguments").trim_start_matches("error: ");
    // "the following arguments were not provided:" goes on in the lines that follow.
    let rest: Vec<&str> =
        if first.ends_with(':') { lines.take_while(|line| line.starts_with('<')).collect() } else { Vec::new() };
    format!("{first} {}", rest.join(" ")).trim().to_owned() + "; see elsewhen --help"
}
