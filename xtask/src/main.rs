//! Tasks of this workspace: `cargo xtask --help` lists them.

#![forbid(unsafe_code)]

mod apt;
mod arch;
mod cache;
mod initramfs;
mod kernel;
mod machine;
mod tools;
mod userland;
mod vm;

use crate::arch::Arch;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// Tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// The tasks.
#[derive(Debug, Subcommand)]
enum Task {
    /// Run the behaviour tests, or a command, on another kernel of Debian in an emulated machine
    Vm(Vm),
}

/// `cargo xtask vm`
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  cargo xtask vm --kernel 6.1 guests::\n  \
    cargo xtask vm --kernel 6.12 waits:: -- --skip mixed\n  \
    cargo xtask vm --kernel 6.1 --command 'uname -r; target/debug/elsewhen doctor'\n  \
    cargo xtask vm --arch arm64 --kernel 6.1 guests::\n\n\
    The machine sees the host's files as they are, at their paths; what it writes goes with it. It has no network.\n\
    A machine of another architecture sees the workspace and its builds at their paths, and else programs of Debian.\n\
    Exit status: that of the tests or of the command; 125 where the machine did not come so far, or not to an end in time.")]
struct Vm {
    /// A series, of which apt's newest kernel is taken, or the file of a kernel's package
    #[arg(long, value_name = "6.1|6.12|FILE.deb")]
    kernel: String,

    /// The architecture of the machine
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,

    /// After how long the machine is stopped: 90s, 20m, 2h
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = duration)]
    timeout: Duration,

    /// How much memory the machine has, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u32,

    /// How many processors the machine has
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,

    /// Further arguments for the kernel: clocksource=acpi_pm
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    append: String,

    /// A command line for the shell, in place of the tests
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["tests", "options"])]
    command: Option<String>,

    /// What the names of the tests to run contain; all tests where nothing is said
    #[arg(value_name = "TEST")]
    tests: Vec<OsString>,

    /// Further arguments for the tests, as behind the -- of cargo test
    #[arg(last = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

fn main() -> ExitCode {
    let Task::Vm(vm) = Cli::parse().task;
    match vm::run(&vm) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(125)
        }
    }
}

/// A duration: a number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(|sign: char| sign.is_ascii_alphabetic()).len());
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("not a number with s, m or h behind it".to_owned()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{error}"))?;
    number.checked_mul(unit_s).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_duration_is_a_number_and_its_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("20m"), Ok(Duration::from_secs(1200)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert!(duration("20").is_err() && duration("m").is_err() && duration("-1s").is_err());
    }
}
