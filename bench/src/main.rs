//! Benchmarks of `elsewhen`: what reading a clock, starting a program and being a member cost, against the host,
//! a kernel time namespace and libfaketime.
//!
//! - `reads`: nanoseconds per call of the clock functions of libc;
//! - `reads32`: the same in 32-bit programs;
//! - `starts`: microseconds per started program, and per failing `execve(2)`;
//! - `memory`: private memory of members, by mapping;
//! - `traps`: nanoseconds per system call;
//! - `designs`: the designs that were proposed for time namespaces in Linux's vDSO, side by side;
//! - `order`: no benchmark, but a test: readings of the self-contained vDSO, the host's and a system call in turn;
//! - `attach`: milliseconds to enter a running process and to leave, and how long that stands still;
//! - `containers`: milliseconds that the container runtime wrapper adds;
//! - `cycles`: no benchmark either: a process of yours enters and leaves, again and again;
//! - `soak`: no benchmark, but a test that goes on for as long as you like: every wait under random changes.
//!
//! Times are taken with the processor's time stamp counter, which no time namespace distorts. All configurations
//! run side by side, as workers that take turns, because on a shared machine two runs are not comparable.

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the benchmarks need the time stamp counter of x86-64 and Linux");

mod attach;
mod clocks;
mod configuration;
mod containers;
mod counter;
mod cycles;
mod designs;
mod machine;
mod memory;
mod reads;
mod reads32;
mod report;
mod soak;
mod starts;
mod statistics;
mod traps;
mod worker;

use clap::{Parser, Subcommand};
use report::Report;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// What a benchmark returns; its errors are only ever printed.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Benchmarks of elsewhen: reading clocks, starting programs, memory
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of Markdown
    #[arg(long, global = true)]
    json: bool,
    /// Program to measure; without it, the release build of the checkout
    #[arg(long, global = true, value_name = "PATH")]
    elsewhen: Option<PathBuf>,
    /// Rounds that are counted
    #[arg(long, global = true, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Calls of a clock function in a round
    #[arg(long, global = true, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    calls: u32,
}

#[derive(Subcommand)]
enum Command {
    /// Nanoseconds per call of the clock functions
    Reads,
    /// The same in 32-bit programs
    Reads32,
    /// Microseconds per started program
    Starts,
    /// Private memory of members
    Memory,
    /// Nanoseconds per system call
    Traps,
    /// Milliseconds to enter and to leave, and how long a target stands still
    Attach,
    /// Milliseconds that the container runtime wrapper adds
    Containers,
    /// All of the above
    All,
    /// The designs for time namespaces in a vDSO: cost outside and inside, code, switching
    Designs(designs::Options),
    /// Read a clock by the self-contained vDSO, the host's and a system call in turn, on every processor
    Order(designs::order::Options),
    /// Read a clock once while somebody counts the instructions
    #[command(hide = true)]
    Stepped {
        /// Name of the flavour.
        flavour: String,
        /// Whether in a namespace.
        #[arg(action = clap::ArgAction::Set)]
        member: bool,
        /// Id of the clock.
        clock: u32,
    },
    /// Wait in every way under random changes
    Soak(soak::Options),
    /// Let a process enter a namespace and leave it, again and again
    Cycles(attach::Cycles),
    /// Be a process to be entered
    #[command(hide = true)]
    Target {
        /// Threads that wait.
        threads: usize,
    },
    /// Be a process that sleeps until a date
    #[command(hide = true)]
    Sleeper {
        /// Seconds since 1970.
        until: i64,
    },
    /// Answer requests on standard input
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Worker => worker::serve(),
        Command::Cycles(options) => attach::cycles(&options),
        Command::Target { threads } => attach::be_target(threads),
        Command::Sleeper { until } => attach::be_sleeper(until),
        Command::Designs(options) => designs::run(&options, arguments.rounds, arguments.calls, arguments.json),
        Command::Order(options) => designs::order::run(&options),
        Command::Stepped { flavour, member, clock } => designs::steps::be_stepped(&flavour, member, clock),
        Command::Soak(options) => soak::run(options, arguments.json),
        _ => measure(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let elsewhen = configuration::locate_elsewhen(arguments.elsewhen.as_deref())?;
    let mut report = Report::new(machine::facts(&elsewhen)?);
    let all = matches!(arguments.command, Command::All);
    if all || matches!(arguments.command, Command::Reads) {
        report.extend(reads::run(&elsewhen, arguments.rounds, arguments.calls)?);
    }
    if all || matches!(arguments.command, Command::Reads32) {
        report.extend(reads32::run(&elsewhen, arguments.rounds, arguments.calls)?);
    }
    if all || matches!(arguments.command, Command::Starts) {
        report.extend(starts::run(&elsewhen, arguments.rounds)?);
    }
    if all || matches!(arguments.command, Command::Memory) {
        report.extend(memory::run(&elsewhen)?);
    }
    if all || matches!(arguments.command, Command::Traps) {
        report.extend(traps::run(&elsewhen, arguments.rounds)?);
    }
    if all || matches!(arguments.command, Command::Attach) {
        report.extend(attach::run(&elsewhen, arguments.rounds)?);
    }
    if all || matches!(arguments.command, Command::Containers) {
        report.extend(containers::run(&elsewhen, arguments.rounds)?);
    }
    if arguments.json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_markdown());
    }
    Ok(())
}
