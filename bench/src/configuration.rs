//! What is measured: the host and the ways of giving a program another time, each with a running worker.

use crate::Result;
use crate::counter;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const DAY_NS: i128 = 86_400_000_000_000;
const SECOND_NS: i128 = 1_000_000_000;

/// A way of running a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Configuration {
    /// As it is.
    Host,
    /// A member whose clocks are all 400 days ahead.
    Offset,
    /// A member whose clocks all run at twice the pace.
    Rate,
    /// A time namespace of the kernel, 100 seconds ahead.
    Kernel,
    /// libfaketime, 400 days ahead.
    Faketime,
}

impl Configuration {
    /// All of them; the host is first.
    pub(crate) const ALL: [Self; 5] = [Self::Host, Self::Offset, Self::Rate, Self::Kernel, Self::Faketime];

    /// Name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Offset => "member, offset",
            Self::Rate => "member, rate 2",
            Self::Kernel => "kernel namespace",
            Self::Faketime => "libfaketime",
        }
    }

    /// What stands before the program on its command line.
    pub(crate) const fn prefix(self) -> &'static [&'static str] {
        match self {
            Self::Host => &[],
            Self::Offset => &["elsewhen", "run", "--quiet", "--offset", "all=400d", "--"],
            Self::Rate => &["elsewhen", "run", "--rate", "2", "--"],
            Self::Kernel => &["unshare", "-T", "--monotonic", "100", "--boottime", "100"],
            Self::Faketime => &["faketime", "-f", "+400d"],
        }
    }

    /// A command that runs a program this way.
    pub(crate) fn command(self, elsewhen: &Path, program: &Path) -> Command {
        let Some((first, rest)) = self.prefix().split_first() else {
            return Command::new(program);
        };
        let mut command = if *first == "elsewhen" { Command::new(elsewhen) } else { Command::new(first) };
        command.args(rest).arg(program);
        command
    }

    /// Why this cannot be measured here, if that is known without trying.
    fn obstacle(self) -> Option<String> {
        match self {
            Self::Kernel if !rustix::process::geteuid().is_root() => Some("needs root".to_owned()),
            Self::Kernel | Self::Faketime => {
                let tool = self.prefix()[0];
                let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
                found.err().map(|error| format!("{tool}: {error}"))
            }
            _ => None,
        }
    }

    /// Distance of `CLOCK_REALTIME` and `CLOCK_MONOTONIC` from the host's and pace of the latter, which prove that
    /// the worker is where it should be. `None` where the distance says nothing.
    const fn expected(self) -> ([Option<i128>; 2], f64) {
        match self {
            Self::Host => ([Some(0), Some(0)], 1.0),
            Self::Offset => ([Some(400 * DAY_NS), Some(400 * DAY_NS)], 1.0),
            // The distance grows.
            Self::Rate => ([None, None], 2.0),
            Self::Kernel => ([Some(0), Some(100 * SECOND_NS)], 1.0),
            // Its monotonic clock starts at the realtime one's reading, not at the host's.
            Self::Faketime => ([Some(400 * DAY_NS), None], 1.0),
        }
    }
}

/// A worker in its configuration.
pub(crate) struct Worker {
    /// The configuration.
    pub(crate) configuration: Configuration,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The workers that could be started, and for each other configuration the reason.
pub(crate) struct Workers {
    /// In the order of [`Configuration::ALL`].
    pub(crate) running: Vec<Worker>,
    /// Configuration and reason.
    pub(crate) skipped: Vec<String>,
}

impl Workers {
    /// Starts a worker in each configuration and checks its clocks.
    pub(crate) fn start(configurations: &[Configuration], elsewhen: &Path) -> Result<Self> {
        let (mut running, mut skipped) = (Vec::new(), Vec::new());
        for configuration in configurations.iter().copied() {
            if let Some(reason) = configuration.obstacle() {
                skipped.push(format!("skipped {}: {reason}", configuration.name()));
                continue;
            }
            let started = Worker::start(configuration, elsewhen).and_then(|mut worker| {
                worker.check()?;
                Ok(worker)
            });
            match started {
                Ok(worker) => running.push(worker),
                Err(error) if configuration == Configuration::Kernel || configuration == Configuration::Faketime => {
                    skipped.push(format!("skipped {}: {error}", configuration.name()));
                }
                Err(error) => return Err(format!("{}: {error}", configuration.name()).into()),
            }
        }
        Ok(Self { running, skipped })
    }
}

impl Worker {
    fn start(configuration: Configuration, elsewhen: &Path) -> Result<Self> {
        let mut command = configuration.command(elsewhen, &std::env::current_exe()?);
        // Cargo sets it, and the dynamic linker would search its directories at every start.
        command.env_remove("LD_LIBRARY_PATH");
        let mut child = command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("the worker's output is not a pipe")?);
        Ok(Self { configuration, child, requests, answers })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, request: &str) -> Result<String> {
        let mut requests = self.requests.as_ref().ok_or("the worker's input is closed")?;
        requests.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(format!("the worker ended at request \"{request}\"").into());
        }
        Ok(answer.trim_end().to_owned())
    }

    /// Sends a request whose answer is numbers.
    pub(crate) fn ask_numbers<T: std::str::FromStr<Err: std::error::Error + 'static>, const N: usize>(
        &mut self,
        request: &str,
    ) -> Result<[T; N]> {
        let answer = self.ask(request)?;
        let numbers = answer.split(' ').map(str::parse).collect::<std::result::Result<Vec<T>, _>>()?;
        numbers.try_into().map_err(|_| format!("not {N} numbers: {answer}").into())
    }

    /// Fails unless the worker's clocks are those of its configuration.
    fn check(&mut self) -> Result<()> {
        let tick_ns = counter::tick_ns();
        let host = [libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC].map(crate::clocks::read_ns);
        let [from_ticks, from, realtime] = self.ask_numbers::<i128, 3>("now")?;
        std::thread::sleep(Duration::from_millis(100));
        let [to_ticks, to, _] = self.ask_numbers::<i128, 3>("now")?;
        let pace = (to - from) as f64 / ((to_ticks - from_ticks) as f64 * tick_ns);
        let (expected, expected_pace) = self.configuration.expected();
        if (pace - expected_pace).abs() > 0.01 {
            return Err(format!("its monotonic clock runs at {pace:.3} instead of {expected_pace}").into());
        }
        let found = [realtime - host[0], from - host[1]];
        let wrong =
            |(found, expected): (&i128, Option<i128>)| expected.is_some_and(|ns| (found - ns).abs() > SECOND_NS);
        if found.iter().zip(expected).any(wrong) {
            return Err(format!("its clocks are {found:?} ns from the host's instead of {expected:?}").into());
        }
        Ok(())
    }
}

impl Drop for Worker {
    /// Ends the worker by closing its input, and waits for it.
    fn drop(&mut self) {
        self.requests = None;
        // A worker that failed has said so where it was asked.
        _ = self.child.wait();
    }
}

/// The program that is measured: the given one, or a release build of the checkout next to this program.
pub(crate) fn locate_elsewhen(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?);
    }
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is in no target directory")?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--jobs", "2", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status()
        .map_err(|error| format!("cargo: {error}; give the program with --elsewhen"))?;
    if !status.success() {
        return Err(format!("building elsewhen: cargo: {status}; give the program with --elsewhen").into());
    }
    Ok(target.join("release/elsewhen"))
}
