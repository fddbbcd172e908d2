//! Entering and leaving: how long the tool takes, how long the target stands still, and how soon members see a change.

use crate::Result;
use crate::counter::{tick_ns, ticks};
use crate::report::{Cell, Table};
use crate::statistics::Sorted;
use elsewhen::{Family, Namespace, SignedDuration, Spec};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Members that sleep while their clock is set.
const SLEEPERS: usize = 1000;

/// A target: threads that wait, and one that watches for pauses.
struct Target {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Target {
    fn start(threads: usize) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["target", &threads.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let to = child.stdin.take().ok_or("standard input is piped")?;
        let from = BufReader::new(child.stdout.take().ok_or("standard output is piped")?).lines();
        Ok(Self { child, to, from })
    }

    /// The longest pause since the last question, in ticks.
    fn pause(&mut self) -> Result<f64> {
        self.to.write_all(b"\n")?;
        Ok(self.from.next().ok_or("the target has ended")??.parse()?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Fails only where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process of a target does: a spinning thread notes the longest time between two looks at the counter.
pub(crate) fn be_target(threads: usize) -> Result<()> {
    static LONGEST: AtomicU64 = AtomicU64::new(0);
    for _ in 0..threads {
        thread::Builder::new().stack_size(64 << 10).spawn(|| {
            loop {
                thread::park_timeout(Duration::from_secs(1));
            }
        })?;
    }
    thread::spawn(|| {
        let mut last = ticks();
        loop {
            let now = ticks();
            LONGEST.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
            last = now;
        }
    });
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", LONGEST.swap(0, Ordering::Relaxed));
    }
    Ok(())
}

/// What a member does that sleeps until its realtime clock reaches a date: says when it wakes.
pub(crate) fn be_sleeper(until: i64) -> Result<()> {
    let date = rustix::time::Timespec { tv_sec: until, tv_nsec: 0 };
    println!("ready");
    let _ = rustix::thread::clock_nanosleep_absolute(rustix::thread::ClockId::Realtime, &date);
    println!("{}", ticks());
    Ok(())
}

pub(crate) fn run(elsewhen: &Path, rounds: u32) -> Result<Vec<Table>> {
    let folder = std::env::temp_dir().join(format!("elsewhen-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let tables = measure(elsewhen, &folder, rounds.min(100));
    std::fs::remove_dir_all(&folder)?;
    tables
}

fn measure(elsewhen: &Path, folder: &Path, rounds: u32) -> Result<Vec<Table>> {
    let tool = |arguments: &[&str]| -> Result<f64> {
        let began = Instant::now();
        let mut command = Command::new(elsewhen);
        command.args(arguments).env("ELSEWHEN_RUNTIME_DIR", folder).stdin(Stdio::null());
        let status = command.status()?;
        if status.success() {
            Ok(began.elapsed().as_secs_f64() * 1e3)
        } else {
            Err(format!("{arguments:?}: {status}").into())
        }
    };
    let tick_ms = tick_ns() / 1e6;
    tool(&["create", "bench", "--offset", "1h"])?;
    let mut rows = Vec::new();
    for threads in [8, 200] {
        let (mut first, mut first_pause) = (Vec::new(), Vec::new());
        let mut columns: [Vec<f64>; 5] = Default::default();
        for _ in 0..rounds.div_ceil(5) {
            let mut target = Target::start(threads)?;
            thread::sleep(Duration::from_millis(20));
            target.pause()?;
            let pid = target.child.id().to_string();
            first.push(tool(&["attach", "-t", &pid, "--to", "bench"])?);
            first_pause.push(target.pause()? * tick_ms);
            for _ in 0..5 {
                // What the machine does to it by itself in that time.
                thread::sleep(Duration::from_millis(5));
                columns[4].push(target.pause()? * tick_ms);
                columns[0].push(tool(&["detach", "-t", &pid])?);
                columns[1].push(target.pause()? * tick_ms);
                columns[2].push(tool(&["attach", "-t", &pid, "--to", "bench"])?);
                columns[3].push(target.pause()? * tick_ms);
            }
            tool(&["detach", "-t", &pid])?;
        }
        let [detach, detach_pause, again, again_pause, quiet] = columns;
        for (what, took, pause) in [
            ("attach, the first time", first, first_pause),
            ("detach", detach, detach_pause),
            ("attach again", again, again_pause),
            ("nothing", Vec::new(), quiet),
        ] {
            let quantiles = |values: Vec<f64>| match values.is_empty() {
                true => [Cell::Nothing, Cell::Nothing],
                false => {
                    let sorted = Sorted::new(values);
                    [Cell::Number(sorted.median(), 2), Cell::Number(sorted.quantile(0.99), 2)]
                }
            };
            let mut row = vec![Cell::text(what), Cell::Number(threads as f64, 0)];
            row.extend(quantiles(took));
            row.extend(quantiles(pause));
            rows.push(row);
        }
    }
    let columns = ["step", "threads", "tool ms", "tool p99", "longest pause ms", "pause p99"];
    let notes = vec![
        "a process with so many threads that wait, and one that spins and notes the longest time between two looks at the \
         time stamp counter"
            .to_owned(),
        "tool: from starting the command to its end; attaching again asks the supervisor first".to_owned(),
        "nothing: the longest pause in five milliseconds without a step".to_owned(),
    ];
    let attach =
        Table { title: "Entering and leaving".into(), columns: columns.map(str::to_owned).to_vec(), rows, notes };
    Ok(vec![attach, set(elsewhen, folder, &tool)?])
}

/// How soon sleeping members wake when their date comes by a step.
fn set(elsewhen: &Path, folder: &Path, tool: &impl Fn(&[&str]) -> Result<f64>) -> Result<Table> {
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 86_400;
    let script = format!("i=0; while [ $i -lt {SLEEPERS} ]; do \"$0\" sleeper {until} & i=$((i+1)); done; wait");
    let mut command = Command::new(elsewhen);
    command.args(["run", "--name", "sleepers", "--", "sh", "-c", &script]).arg(std::env::current_exe()?);
    command.env("ELSEWHEN_RUNTIME_DIR", folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("standard output is piped")?).lines();
    for _ in 0..SLEEPERS {
        lines.next().ok_or("a sleeper has ended")??;
    }
    thread::sleep(Duration::from_millis(500));
    let began = ticks();
    let took = tool(&["set", "sleepers", "--by", "2d"])?;
    let mut woken = Vec::new();
    for _ in 0..SLEEPERS {
        let at: u64 = lines.next().ok_or("a sleeper has ended")??.parse()?;
        woken.push(at.saturating_sub(began) as f64 * tick_ns_once() / 1e6);
    }
    child.wait()?;
    let sorted = Sorted::new(woken);
    let row = vec![
        Cell::Number(SLEEPERS as f64, 0),
        Cell::Number(took, 2),
        Cell::Number(sorted.min(), 2),
        Cell::Number(sorted.median(), 2),
        Cell::Number(sorted.quantile(1.0), 2),
    ];
    let columns = ["members", "`set` ms", "first wakes ms", "median ms", "last wakes ms"];
    let notes = vec![
        "processes that sleep until a date which the step passes, from the start of the command on".to_owned(),
        "a member that reads a clock sees the change half a millisecond after it was published, all at one instant"
            .to_owned(),
    ];
    Ok(Table {
        title: "A step wakes sleepers".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: vec![row],
        notes,
    })
}

/// Options of `cycles`.
#[derive(clap::Args)]
pub(crate) struct Cycles {
    /// The process that enters and leaves
    #[arg(long, value_name = "PID")]
    pid: u32,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 1000)]
    times: u32,
}

/// Lets a process, which should be under load, enter a namespace and leave it again and again. Every time the code of its
/// vDSO must be what it was.
pub(crate) fn cycles(options: &Cycles) -> Result<()> {
    let namespace = Namespace::new(&Spec::new().offset(Family::Realtime, SignedDuration::from_hours(1)))?;
    let code = || code_of_vdso(options.pid);
    let original = code()?;
    let (mut entering, mut leaving) = (Vec::new(), Vec::new());
    for round in 0..options.times {
        let began = Instant::now();
        namespace.attach(options.pid).map_err(|error| format!("round {round}: {error}"))?;
        entering.push(began.elapsed().as_secs_f64() * 1e3);
        if code()? == original {
            return Err(format!("round {round}: the entries have not been redirected").into());
        }
        let began = Instant::now();
        Namespace::detach(options.pid).map_err(|error| format!("round {round}: {error}"))?;
        leaving.push(began.elapsed().as_secs_f64() * 1e3);
        if code()? != original {
            return Err(format!("round {round}: the vDSO is not what it was").into());
        }
    }
    let (entering, leaving) = (Sorted::new(entering), Sorted::new(leaving));
    println!(
        "{} times in and out: {:.2} ms (99 %: {:.2}) and {:.2} ms (99 %: {:.2}); every byte of the vDSO's code as before",
        options.times,
        entering.median(),
        entering.quantile(0.99),
        leaving.median(),
        leaving.quantile(0.99)
    );
    // What the process executes is entered for as long as somebody answers.
    println!("its supervisor is this process, until it ends");
    namespace.wait_attached();
    Ok(())
}

/// The vDSO of a process but for its unused end, where what is added stays.
fn code_of_vdso(pid: u32) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).ok_or("it has no vDSO")?;
    let (start, end) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')).ok_or("a strange mapping")?;
    let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
    let mut bytes = vec![0; usize::try_from(end - start)?];
    std::fs::File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut bytes, start)?;
    // What is added begins with this mark.
    let added = bytes.windows(8).position(|window| window == b"elswhen1");
    let used = added.unwrap_or_else(|| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes.truncate(used);
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn tick_ns_once() -> f64 {
    static TICK: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICK.get_or_init(tick_ns)
}
