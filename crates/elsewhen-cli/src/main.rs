//! The `elsewhen` command: arguments in, one call of the library, an exit status out.

#![forbid(unsafe_code)]

mod args;
mod attach;
mod doctor;
mod front;
mod namespaces;
mod request;
mod supervisor;
mod tables;

use args::{Cli, Sub};
use clap::{CommandFactory, Parser};
use elsewhen::Namespace;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// What was waited for has not come, or a process is in no namespace.
const NOTHING: u8 = 1;
/// Our own failure: bad arguments, no permission, no support here.
const FAILURE: u8 = 125;
/// The program exists but cannot be run, or was refused.
const CANNOT_RUN: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let inherited = elsewhen_linux::process::inherited_descriptors();
    if asks_for_all_about_the_version(std::env::args_os().skip(1)) {
        return print(version().as_bytes());
    }
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
            Ok(spec) => front::run(noted(&run.clocks, Namespace::new(&spec)), &run.command, &inherited),
            Err(error) => fail(&error.to_string()),
        },
        Sub::Faketime(faketime) => match request::of_faketime(&faketime) {
            Ok(spec) => front::run(Namespace::new(&spec), &faketime.command, &inherited),
            Err(error) => fail(&error.to_string()),
        },
        Sub::Exec(exec) => front::run(Namespace::open(&exec.name), &exec.command, &inherited),
        Sub::Attach(attach) => attach::attach(&attach, &inherited),
        Sub::Detach(detach) => attach::detach(&detach),
        Sub::Adopt(adopt) => attach::adopt(&adopt, &inherited),
        Sub::Create(create) => namespaces::create(&create),
        Sub::Rm(remove) => namespaces::remove(&remove),
        Sub::Set(set) => namespaces::set(&set),
        Sub::Ls(list) => tables::list(&list),
        Sub::Show(show) => tables::show(&show),
        Sub::Wait(wait) => namespaces::wait(&wait),
        Sub::Watch(watch) => tables::watch(&watch),
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

/// Whether the arguments are `--version --verbose`, in whatever order.
fn asks_for_all_about_the_version(arguments: impl Iterator<Item = OsString>) -> bool {
    let (mut version, mut verbose, mut others) = (false, false, false);
    for argument in arguments {
        match argument.to_str() {
            Some("--version" | "-V") => version = true,
            Some("--verbose" | "-v") => verbose = true,
            _ => others = true,
        }
    }
    version && verbose && !others
}

/// The version, and what is in this binary.
fn version() -> String {
    let image = elsewhen_vdso::image::IMAGE.len();
    let programs = if cfg!(target_arch = "x86_64") { "x86-64, i386, x32" } else { "arm64" };
    format!(
        "elsewhen {}\nprograms: {programs}\nimage: {image} bytes\npage: layout {}\n",
        env!("CARGO_PKG_VERSION"),
        elsewhen_vdso::page::PAGE_VERSION,
    )
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

/// Passes on what came of a request, and tells whoever has moved BOOTTIME by name that the files of `/proc` do not follow it.
fn noted<T>(asked: &args::Clocks, outcome: elsewhen::Result<T>) -> elsewhen::Result<T> {
    const NOTE_PROC: &str =
        "boottime is moved, but /proc/uptime, btime of /proc/stat and start times in /proc/PID/stat stay the host's";
    if outcome.is_ok() && !asked.quiet && request::names_boottime(asked) {
        eprintln!("elsewhen: note: {NOTE_PROC} (--quiet omits this)");
    }
    outcome
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
