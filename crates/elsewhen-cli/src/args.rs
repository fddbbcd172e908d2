//! What can be typed: parser, help, completions and the manual come from these definitions.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::io::{self, Write};

/// Run any program in its own time: offset, rate and freeze per clock, without root, LD_PRELOAD or a kernel patch.
#[derive(Debug, Parser)]
#[command(name = "elsewhen", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: the program's own, 128+N if signal N ended it, 125 if elsewhen failed, 126 if the \
                        program cannot be run or entered, 127 if it was not found."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Sub,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Sub {
    /// Run a program, and everything it starts, in a new time namespace
    Run(Run),
    /// Run a program with a specification of faketime(1)
    Faketime(Faketime),
    /// Let a running process, with what it starts from now on, enter a namespace
    Attach(Attach),
    /// Let a running process leave its namespace
    Detach(Process),
    /// Supervise members whose supervisor has died, so that they can start programs again
    Adopt(Adopt),
    /// Make a namespace with a name, which stays until it is removed
    Create(Create),
    /// Remove namespaces by their names
    Rm(Remove),
    /// Run a program in a namespace that has a name
    Exec(Exec),
    /// Change the clocks of a namespace, for all its members at once
    Set(Set),
    /// List namespaces
    Ls(List),
    /// Show the clocks and the members of a namespace
    Show(Show),
    /// Wait until the realtime clock of a namespace reaches a date
    Wait(Wait),
    /// Show the clocks of namespaces against the host's, again and again
    Watch(Watch),
    /// Say what would and would not be intercepted, here or for a program or process, and why
    Doctor(Doctor),
    /// Print the clocks that this process reads
    #[command(hide = true)]
    Clocks,
    /// Print completions for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff
    Man,
}

/// `elsewhen run`
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  elsewhen run --at 2038-01-19T03:14:00Z -- date\n  \
    elsewhen run --offset -1.5h -- make test\n  elsewhen run --at '2030-01-01 09:00' --rate 60 -- ./server\n  \
    elsewhen run --freeze -- date\n\n\
    A date, an offset or a freeze without a clock moves realtime only (and TAI, which goes with it). A rate without \
    a clock applies to all clocks.")]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) clocks: Clocks,

    #[command(flatten)]
    pub(crate) abilities: Abilities,

    /// Name of the namespace, by which the other subcommands find it for as long as it has members
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// Where clocks are put and how fast they run.
#[derive(Debug, Args)]
pub(crate) struct Clocks {
    /// Date at which the realtime clock starts: RFC 3339, YYYY-MM-DD[ hh:mm[:ss]] in local time or with a zone
    /// behind it, or @SECONDS since 1970
    #[arg(long, value_name = "DATE", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,

    /// Distance of a clock (realtime, monotonic, boottime, all; without one realtime) from the host's: 90, -1.5h,
    /// 2h45m, 10d, 2w, 1y, 300ms. Can be repeated
    #[arg(long, value_name = "[CLOCK=]DURATION", allow_hyphen_values = true)]
    pub(crate) offset: Vec<String>,

    /// Seconds that a clock (without one: every clock) counts in a second, from 1/1000 to 1000. Can be repeated
    #[arg(long, value_name = "[CLOCK=]RATE", allow_hyphen_values = true)]
    pub(crate) rate: Vec<String>,

    /// Stop a clock (without one: realtime) where it starts. Can be repeated. Waits still take their time
    #[arg(long, value_name = "CLOCK", num_args = 0..=1, require_equals = true, default_missing_value = "realtime")]
    pub(crate) freeze: Vec<String>,

    /// Say nothing of what does not follow a clock that is moved
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What members of a new namespace are prepared for.
#[derive(Debug, Args)]
pub(crate) struct Abilities {
    /// Prepare members for any later change: every timed wait is then caught, at some microseconds each
    #[arg(long)]
    pub(crate) adjustable: bool,

    /// Let members set the namespace's clock (date -s, chronyd), with or without the privilege. The host's clock
    /// is never set from inside
    #[arg(long)]
    pub(crate) settable: bool,

    /// Whether the times of files are the host's, or are seen and set by the members' own realtime clock
    #[arg(long, value_enum, value_name = "TIMES", default_value_t = Files::Real)]
    pub(crate) files: Files,
}

/// `elsewhen create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: 1 to 32 letters, digits, '.', '_' or '-'
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) clocks: Clocks,

    #[command(flatten)]
    pub(crate) abilities: Abilities,
}

/// `elsewhen rm`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Their names
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,

    /// Also where it has members: these keep their clocks, which nobody can change any more
    #[arg(long)]
    pub(crate) force: bool,
}

/// `elsewhen exec`
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// A namespace that exists.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Name of a namespace, id of a process, or name or id of a container
    #[arg(value_name = "NAME|PID|CONTAINER")]
    pub(crate) target: String,

    /// It is the name of a container, its id, or what only its id begins with
    #[arg(long)]
    pub(crate) container: bool,
}

/// `elsewhen set`
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  elsewhen set lab --by +5s\n  elsewhen set lab --rate 60\n  \
    elsewhen set lab --offset 1h --smooth 10min\n  elsewhen set lab --freeze; elsewhen set lab --thaw\n\n\
    A date, an offset or a distance makes a clock jump at once for all members, unless --smooth is given; a rate or a \
    freeze never does. Waits and timers of members are looked at again.")]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) target: Target,

    #[command(flatten)]
    pub(crate) clocks: Clocks,

    /// Distance to move a clock (without one: realtime) from where it is. Can be repeated
    #[arg(long, value_name = "[CLOCK=]DURATION", allow_hyphen_values = true)]
    pub(crate) by: Vec<String>,

    /// Let a clock that stands still (without one: every clock) go on at the host's pace. Can be repeated
    #[arg(long, value_name = "CLOCK", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub(crate) thaw: Vec<String>,

    /// Spread the change over so much of the host's time, in which the clocks run faster or slower, instead of jumping
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) smooth: Option<String>,
}

/// `elsewhen attach`
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  elsewhen attach -t 4711 --offset 1h\n  elsewhen attach -t 4711 --tree --to lab\n\n\
    The process is stopped for about a millisecond and goes on in the namespace. A supervisor stays behind for the \
    programs that it executes. With --offset and the like the namespace is a new one, named by --name or \
    attached-PID."
)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub(crate) process: Process,

    /// The namespace, by its name, instead of a new one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["at", "offset", "rate", "freeze", "name", "adjustable", "settable", "files"])]
    pub(crate) to: Option<String>,

    #[command(flatten)]
    pub(crate) clocks: Clocks,

    #[command(flatten)]
    pub(crate) abilities: Abilities,

    /// Name of the new namespace
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// A running process, or a tree of them.
#[derive(Debug, Args)]
pub(crate) struct Process {
    /// Id of the process
    #[arg(short = 't', long = "target", value_name = "PID")]
    pub(crate) target: u32,

    /// All its descendants too
    #[arg(long)]
    pub(crate) tree: bool,
}

/// `elsewhen adopt`
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// Name of a namespace, or the id of a process in one
    #[arg(value_name = "NAME|PID")]
    pub(crate) target: String,
}

/// `elsewhen ls`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Columns, separated by commas: NAME, CONTAINER, MEMBERS, REALTIME, OFFSET, RATE, PID, COMMAND
    #[arg(short = 'o', long = "output", value_name = "COLUMNS")]
    pub(crate) columns: Option<String>,

    /// No line of headings
    #[arg(short = 'n', long)]
    pub(crate) noheadings: bool,
}

/// `elsewhen show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) target: Target,

    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `elsewhen wait`
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) target: Target,

    /// The date that its realtime clock is to reach, as for --at
    #[arg(long, value_name = "DATE", allow_hyphen_values = true)]
    pub(crate) until: String,

    /// Give up, with exit status 1, after so much of the host's time
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) timeout: Option<String>,
}

/// `elsewhen watch`
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Names; without one, all namespaces
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "1")]
    pub(crate) interval: String,

    /// End after so many looks
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
}

/// Whose times files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Files {
    /// The host's.
    Real,
    /// The program's own.
    Follow,
}

/// `elsewhen faketime`
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  elsewhen faketime '2030-12-24 20:30:00' date\n  \
    elsewhen faketime 'last friday 5 pm' date\n  elsewhen faketime -f '+2d x10' ./server\n  \
    elsewhen faketime -f '@2000-01-01 11:12:13' date\n\n\
    As in faketime, an absolute date with -f stops the clock, and '@' lets it run from that date. Unlike faketime, \
    a specification without a rate leaves the monotonic clock alone.")]
pub(crate) struct Faketime {
    /// The specification is in the advanced syntax: -15d, +2d x10, @2020-12-24 20:30:00, 2020-12-24 20:30:00
    #[arg(short = 'f')]
    pub(crate) advanced: bool,

    /// Accepted for faketime's sake: every program may have threads
    #[arg(short = 'm', hide = true)]
    pub(crate) threads: bool,

    /// Accepted for faketime's sake: the monotonic clock is left alone anyway
    #[arg(long, hide = true)]
    pub(crate) exclude_monotonic: bool,

    /// The time that the program sees
    #[arg(value_name = "SPEC", allow_hyphen_values = true)]
    pub(crate) spec: String,

    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// `elsewhen doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A program (path, or name in PATH) or the id of a process; without one, this machine
    #[arg(value_name = "CMD|PID")]
    pub(crate) target: Option<String>,
}

/// Writes one manual page with every subcommand in it.
pub(crate) fn write_manual(to: &mut impl Write) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    to.write_all(&page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = sub.get_name().to_uppercase();
        writeln!(to, ".SH \"ELSEWHEN {name}\"")?;
        let manual = clap_mangen::Man::new(sub.clone());
        manual.render_synopsis_section(to)?;
        manual.render_description_section(to)?;
        manual.render_options_section(to)?;
        manual.render_extra_section(to)?;
    }
    Ok(())
}
