//! Programs that wait in every way, while their clocks are changed at random: none may end early, none may hang.
//!
//! The guests (`guests/soak.c`) write into shared memory what each thread waits for, and how each wait ended, with
//! stamps of the processor's counter. This side changes the clocks, remembers how they ran, and judges: a wait must not
//! end before its clock has reached the deadline, and must not last longer than that. Where a change makes the answer
//! uncertain (it takes effect somewhere between two stamps), the guest has the benefit of the doubt.

#![expect(unsafe_code, reason = "memory that is shared with the guests")]

mod history;

use self::history::{Form, History, OVER, Record, Run, SPURIOUS, Segment, WOKEN, Wait};
use crate::Result;
use crate::counter::ticks;
use clap::Args;
use elsewhen::{Child, Clocks, Family, Namespace, Rate, SignedDuration, Spec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// Threads of a guest.
const THREADS: usize = 16;
/// Records that a slot has room for.
const RECORDS: usize = 2048;
/// How long after a change, in nanoseconds of the host, a thread may still wait by the pace of before.
const GRACE_NS: f64 = 50e6;
/// How long a thread may do nothing outside of a wait.
const PAUSE: Duration = Duration::from_secs(30);
/// How early a wait may seem, by a clock at the host's pace: what this side knows of the clocks is measured.
const UNSURE_NS: f64 = 20_000.0;
/// With so many violations there is nothing more to learn.
const ENOUGH: usize = 40;
const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;
/// REALTIME is kept within 2000 and 2200.
const DATES_NS: std::ops::Range<i64> = 10_957 * DAY_NS..84_006 * DAY_NS;

/// What can be asked of a soak.
#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// What the changes and the waits follow from; without it, the time of day
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How long a wait that is over may go on, in seconds of the host
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    slack: f64,
    /// With timer descriptors too
    #[arg(long)]
    timers: bool,
    /// Durations have to pass by the program's own clock, also where its pace has changed meanwhile
    #[arg(long)]
    strict: bool,
}

/// Runs a soak. Fails if anything went wrong in it.
pub(crate) fn run(options: Options, json: bool) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.subsec_nanos().into())
    });
    let mut soak = Soak::start(options, seed, json)?;
    let outcome = soak.run(Duration::from_secs_f64(options.minutes * 60.0));
    soak.report(true);
    outcome?;
    match soak.violations.len() {
        0 => Ok(()),
        count => Err(format!("{count} violations; seed {seed}").into()),
    }
}

/// Memory that the guests write.
struct Shared {
    words: *const AtomicU64,
    slots: usize,
}

/// The layout that `guests/soak.c` has.
const HEADER_WORDS: usize = 512;
const SLOT_WORDS: usize = 16 + RECORDS * RECORD_WORDS;
const RECORD_WORDS: usize = 9;

/// Words of a slot.
#[derive(Clone, Copy)]
enum Word {
    Sequence = 0,
    Tid,
    What,
    Deadline,
    Began,
    Woken,
    Head,
    Tail,
    Dropped,
    Backwards,
    BackwardsWhat,
    BackwardsFrom,
    BackwardsTo,
    Beat,
}

impl Shared {
    fn create(path: &Path, slots: usize) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let length = (HEADER_WORDS + slots * SLOT_WORDS) * 8;
        file.set_len(length as u64)?;
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a new mapping, of a file that is as long.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(Self { words: at.cast(), slots })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < HEADER_WORDS + self.slots * SLOT_WORDS, "beyond the shared memory");
        // SAFETY: within the mapping.
        let word = unsafe { self.words.add(at) };
        // SAFETY: the mapping is never unmapped, and aligned as its start is to a page.
        unsafe { &*word }
    }

    fn of(&self, slot: usize, word: Word) -> &AtomicU64 {
        self.word(HEADER_WORDS + slot * SLOT_WORDS + word as usize)
    }

    fn get(&self, slot: usize, word: Word) -> u64 {
        self.of(slot, word).load(Ordering::SeqCst)
    }

    /// What a thread waits for; `None` where it does not wait, or changes that just now.
    fn waiting(&self, slot: usize) -> Option<(u64, Wait)> {
        let sequence = self.get(slot, Word::Sequence);
        if sequence.is_multiple_of(2) {
            return None;
        }
        let (what, deadline) = (self.get(slot, Word::What), self.get(slot, Word::Deadline) as i64);
        let (began, woken) = (self.get(slot, Word::Began), self.get(slot, Word::Woken));
        (self.get(slot, Word::Sequence) == sequence).then(|| (sequence, Wait::new(what, deadline, began, woken)))
    }

    /// Takes the records of a slot.
    fn take(&self, slot: usize, mut each: impl FnMut(Record)) {
        let (head, tail) = (self.get(slot, Word::Head), self.get(slot, Word::Tail));
        for number in tail..head {
            let at = HEADER_WORDS + slot * SLOT_WORDS + 16 + (number as usize % RECORDS) * RECORD_WORDS;
            let word = |index: usize| self.word(at + index).load(Ordering::Relaxed);
            each(Record {
                wait: Wait::new(word(0), word(2) as i64, word(3), word(8)),
                way: (word(0) >> 24) as u8,
                result: word(1),
                ended: word(4),
                before_ns: word(5) as i64,
                after_ns: word(6) as i64,
                read: word(7),
            });
        }
        self.of(slot, Word::Tail).store(head, Ordering::SeqCst);
    }
}

/// A guest.
struct Guest {
    build: &'static str,
    child: Child,
}

/// What became of the waits of a kind.
#[derive(Clone, Copy, Default)]
struct Tally {
    over: u64,
    woken: u64,
    spurious: u64,
    latest_ns: f64,
    earliest_ns: f64,
    /// Durations that were shorter by the guest's own clock, and by how much at most.
    short: u64,
    shortest_ns: f64,
}

/// What this side saw of a thread last.
#[derive(Clone, Copy)]
struct Seen {
    beat: u64,
    /// When it was another.
    since: Instant,
    /// The wait that has been reported already.
    reported: u64,
    backwards: u64,
}

struct Soak {
    options: Options,
    json: bool,
    seed: u64,
    namespace: Namespace,
    guests: Vec<Guest>,
    shared: Shared,
    directory: PathBuf,
    kinds: Vec<String>,
    history: History,
    random: Random,
    /// By kind.
    tallies: Vec<Tally>,
    seen: Vec<Seen>,
    changes: BTreeMap<&'static str, u64>,
    refused: u64,
    paces: [f64; 3],
    highest_ns: i64,
    violations: Vec<Value>,
    started: Instant,
    /// How long this side was kept from its work lately: so may others have been.
    noise: Noise,
}

/// The longest delays of the last seconds.
struct Noise {
    delays: [(Instant, f64); 16],
    next: usize,
}

impl Noise {
    fn add(&mut self, delay_ns: f64) {
        if delay_ns > 5e6 {
            self.delays[self.next] = (Instant::now(), delay_ns);
            self.next = (self.next + 1) % self.delays.len();
        }
    }

    fn recent_ns(&self) -> f64 {
        let recent = self.delays.iter().filter(|(at, _)| at.elapsed() < Duration::from_secs(10));
        recent.map(|(_, delay_ns)| delay_ns).sum()
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Every order of magnitude as likely as any other.
    fn about(&mut self, low: f64, high: f64) -> f64 {
        low * (high / low).powf(self.share())
    }
}

impl Soak {
    fn start(options: Options, seed: u64, json: bool) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("elsewhen-soak-{}", std::process::id()));
        fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let offset = |days: i64| SignedDuration::from_hours(24 * days);
        let spec = Spec::new().adjustable().offset(Family::Realtime, offset(1000));
        let spec = spec.offset(Family::Monotonic, offset(30)).offset(Family::Boottime, offset(40));
        let builds =
            [("dynamic", "cc", &[][..]), ("static", "cc", &["-static"][..]), ("musl", "musl-gcc", &["-static"][..])];
        let shared = Shared::create(&directory.join("shared"), builds.len() * THREADS)?;
        let now = Instant::now();
        let seen = Seen { beat: 0, since: now, reported: 0, backwards: 0 };
        // From here on, dropping removes the directory.
        let mut soak = Self {
            options,
            json,
            seed,
            namespace: Namespace::new(&spec)?,
            guests: Vec::new(),
            seen: vec![seen; shared.slots],
            shared,
            directory,
            kinds: Vec::new(),
            history: History::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            tallies: Vec::new(),
            changes: BTreeMap::new(),
            refused: 0,
            paces: [1.0; 3],
            highest_ns: 0,
            violations: Vec::new(),
            started: now,
            noise: Noise { delays: [(now, 0.0); 16], next: 0 },
        };
        soak.remember(ticks());
        for (index, (build, compiler, flags)) in builds.into_iter().enumerate() {
            let program = soak.directory.join(build);
            match compile(compiler, flags, &program) {
                Ok(()) => soak.add_guest(build, &program, index * THREADS, options.timers)?,
                Err(reason) if build == "dynamic" => return Err(reason.into()),
                Err(reason) => eprintln!("skipped {build}: {reason}"),
            }
        }
        soak.tallies = vec![Tally::default(); soak.kinds.len()];
        Ok(soak)
    }

    fn add_guest(&mut self, build: &'static str, program: &Path, first: usize, timers: bool) -> Result<()> {
        let mut command = self.namespace.command(program);
        command.arg(self.directory.join("shared")).arg(first.to_string()).arg(THREADS.to_string());
        command.arg(self.seed.to_string()).arg(if timers { "all" } else { "no-timerfd" });
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.take_stdout().ok_or("its output is not a pipe")?).read_line(&mut line)?;
        self.kinds = line.split_whitespace().map(str::to_owned).collect();
        if self.kinds.is_empty() {
            return Err(format!("the {build} guest ended at its start").into());
        }
        self.guests.push(Guest { build, child });
        Ok(())
    }

    fn run(&mut self, length: Duration) -> Result<()> {
        let (mut change_at, mut report_at) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        let mut ended = false;
        while self.started.elapsed() < length && !ended && self.violations.len() < ENOUGH {
            let asleep = Instant::now();
            let nap = Duration::from_millis(5);
            sleep(nap);
            self.noise.add((asleep.elapsed().saturating_sub(nap)).as_nanos() as f64);
            self.judge();
            self.watch();
            if Instant::now() >= change_at {
                self.change();
                // Now and then for longer than the slack: the next change would make up for one that was missed.
                let rest = if self.random.next().is_multiple_of(50) { 1500.0 * self.options.slack } else { 0.0 };
                change_at = Instant::now() + Duration::from_millis((rest + self.random.about(20.0, 500.0)) as u64);
            }
            if Instant::now() >= report_at {
                self.report(false);
                report_at += Duration::from_secs(60);
            }
            for index in 0..self.guests.len() {
                let Guest { build, child } = &mut self.guests[index];
                if let Some(status) = child.try_wait()? {
                    let found = json!({ "what": "a guest has ended", "guest": build, "status": status.to_string() });
                    self.violate(found);
                    ended = true;
                }
            }
        }
        Ok(())
    }

    /// Changes something, and remembers how the clocks run now.
    fn change(&mut self) {
        let (name, spec, paces) = self.choose();
        let (from, began) = (ticks(), Instant::now());
        match self.namespace.set(&spec) {
            Ok(()) => {
                *self.changes.entry(name).or_default() += 1;
                self.paces = paces;
            }
            // A step forth on a clock that runs fast may come too late.
            Err(error) if error.is_invalid() => self.refused += 1,
            Err(error) => {
                self.violate(json!({ "what": "a change failed", "change": name, "error": error.to_string() }))
            }
        }
        self.noise.add(began.elapsed().saturating_sub(Duration::from_millis(50)).as_nanos() as f64);
        self.remember(from);
    }

    /// What is changed next: its name, what is asked, and the paces of the clocks then.
    fn choose(&mut self) -> (&'static str, Spec, [f64; 3]) {
        let (spec, mut paces) = (Spec::new(), self.paces);
        if paces[Family::Monotonic as usize] == 0.0 {
            return ("thaw all", spec.thaw(Clocks::ALL), [1.0; 3]);
        }
        let realtime = &mut paces[Family::Realtime as usize];
        if *realtime == 0.0 && self.random.share() < 0.3 {
            *realtime = 1.0;
            return ("thaw", spec.thaw(Family::Realtime), paces);
        }
        match self.random.next() % 100 {
            0..35 => {
                let size_ns = self.random.about(1e6, 3.0 * DAY_NS as f64) as i64;
                let step_ns = if self.random.share() < 0.5 { size_ns } else { -size_ns };
                ("step realtime", self.step(spec, Family::Realtime, step_ns), paces)
            }
            35..55 => {
                let rate = self.rate();
                ("rate", spec.rate(rate), [rate.as_f64(); 3])
            }
            55..65 => {
                *realtime = 0.0;
                ("freeze", spec.freeze(Family::Realtime), paces)
            }
            65..80 => {
                let step_ns = self.random.about(1e9, 3.6e12) as i64;
                match self.random.next() % 3 {
                    0 => ("step monotonic", self.step(spec, Family::Monotonic, step_ns), paces),
                    1 => ("step boottime", self.step(spec, Family::Boottime, step_ns), paces),
                    _ => {
                        let spec = self.step(spec, Family::Monotonic, step_ns);
                        ("step both", self.step(spec, Family::Boottime, step_ns), paces)
                    }
                }
            }
            80..85 => ("freeze all", spec.freeze(Clocks::ALL), [0.0; 3]),
            85..90 => {
                let rate = self.rate();
                *realtime = rate.as_f64();
                ("rate of realtime", spec.rate_of(Family::Realtime, rate), paces)
            }
            90..95 => {
                let (rate, step_ns) = (self.rate(), self.random.about(1e6, DAY_NS as f64) as i64);
                ("rate and step", self.step(spec.rate(rate), Family::Realtime, step_ns), [rate.as_f64(); 3])
            }
            // Past whatever anybody waits for.
            _ => {
                let now_ns = self.namespace.now_ns(Family::Realtime);
                let spec = self.step(spec, Family::Realtime, self.highest_ns.max(now_ns) - now_ns + 4 * DAY_NS);
                let spec = self.step(spec, Family::Monotonic, 7200 * SECOND_NS);
                ("step past all", self.step(spec, Family::Boottime, 7200 * SECOND_NS), paces)
            }
        }
    }

    fn rate(&mut self) -> Rate {
        match self.random.next() % 4 {
            0 => Rate::ONE,
            _ => Rate::from_f64(self.random.about(0.1, 50.0)).unwrap_or(Rate::ONE),
        }
    }

    /// Moves a clock, from where it is.
    fn step(&self, spec: Spec, family: Family, step_ns: i64) -> Spec {
        let now_ns = self.namespace.now_ns(family);
        let mut to_ns = now_ns.saturating_add(step_ns);
        if family == Family::Realtime && !DATES_NS.contains(&to_ns) {
            to_ns = DATES_NS.start + 10_000 * DAY_NS;
        }
        spec.offset(family, SignedDuration::from_nanos(to_ns - host_now_ns(family)))
    }

    /// Remembers how the clocks run after a change that was made at a stamp.
    fn remember(&mut self, from: u64) {
        let settled = ticks();
        self.history.measure();
        let run = |family: Family| {
            let readings = (0..5).map(|_| {
                let (before, reading) = (ticks(), self.namespace.now_ns(family));
                let after = ticks();
                (after - before, (before + (after - before) / 2, reading))
            });
            let anchor = readings.min().map_or((settled, 0), |(_, anchor)| anchor);
            Run { anchor, pace: self.paces[family as usize] }
        };
        let runs = Family::ALL.map(run);
        self.highest_ns = self.highest_ns.max(runs[0].anchor.1);
        self.history.segments.push(Segment { from, settled, runs });
    }

    /// Judges the waits that are over.
    fn judge(&mut self) {
        for slot in 0..self.shared.slots {
            let mut records = Vec::new();
            self.shared.take(slot, |record| records.push(record));
            for record in records {
                self.judge_one(slot, &record);
            }
            let backwards = self.shared.get(slot, Word::Backwards);
            if backwards != self.seen[slot].backwards {
                let what = self.shared.get(slot, Word::BackwardsWhat);
                let (from, to) = (
                    self.shared.get(slot, Word::BackwardsFrom) as i64,
                    self.shared.get(slot, Word::BackwardsTo) as i64,
                );
                let found = json!({
                    "what": "a clock went back", "thread": self.thread(slot), "clock": what & 0xff, "way": what >> 8,
                    "times": backwards - self.seen[slot].backwards, "from_ns": from, "to_ns": to,
                });
                self.seen[slot].backwards = backwards;
                self.violate(found);
            }
        }
    }

    fn judge_one(&mut self, slot: usize, record: &Record) {
        let Record { wait, ended, .. } = record;
        let noise_ns = 3.0 * self.noise.recent_ns();
        let Some(tally) = self.tallies.get_mut(wait.kind) else { return };
        let short_ns = self.history.short_ns(record).unwrap_or(0);
        if short_ns > 0 {
            tally.short += 1;
            tally.shortest_ns = tally.shortest_ns.max(short_ns as f64);
        }
        let late_ns = self.history.late_ns(wait, *ended);
        tally.latest_ns = tally.latest_ns.max(late_ns);
        let mut early_ns = 0.0;
        match record.result {
            OVER => {
                tally.over += 1;
                early_ns = self.history.early_ns(record, GRACE_NS + noise_ns);
                tally.earliest_ns = tally.earliest_ns.max(early_ns);
            }
            WOKEN => tally.woken += 1,
            SPURIOUS => tally.spurious += 1,
            _ => {}
        }
        let fastest = self.history.parts(wait.began, record.read);
        let fastest = fastest.flat_map(|(segment, ..)| segment.runs.map(|run| run.pace)).fold(1.0, f64::max);
        // Where nothing has changed meanwhile, the guest's own clock is to be believed.
        let by_its_own_clock = match wait.form {
            Form::Until(family) if self.history.is_quiet(family, wait.began, record.read) => {
                wait.deadline_ns - record.after_ns
            }
            Form::For if self.options.strict || self.history.is_quiet(Family::Monotonic, wait.began, record.read) => {
                short_ns
            }
            _ => 0,
        };
        let what = match record.result {
            OVER if early_ns > UNSURE_NS * fastest || by_its_own_clock > 0 => "ended early",
            OVER | WOKEN | SPURIOUS if late_ns > self.slack_ns() + noise_ns => "ended late",
            OVER | WOKEN | SPURIOUS => return,
            _ => "failed",
        };
        let found = json!({
            "what": what, "thread": self.thread(slot), "kind": self.kinds[wait.kind],
            "form": format!("{:?}", wait.form), "deadline_ns": wait.deadline_ns,
            "result": record.result, "clock_read_by": record.way,
            "before_ns": record.before_ns, "after_ns": record.after_ns,
            "early_ms": early_ns / 1e6, "early_by_its_own_clock_ms": by_its_own_clock as f64 / 1e6,
            "late_ms": late_ns / 1e6, "lasted_ms": self.history.between(wait.began, *ended) / 1e6,
            "segments": self.segments(wait.began, record.read),
        });
        self.violate(found);
    }

    /// The last segments of a stretch, for people.
    fn segments(&self, from: u64, to: u64) -> Vec<Value> {
        let parts: Vec<_> = self.history.parts(from, to).collect();
        let shown = parts.iter().rev().take(6).rev();
        let ms = |stamp: u64| (stamp as i64 - from as i64) as f64 * self.history.tick_ns / 1e6;
        let (pace, read) = (|run: Run| run.pace, |run: Run| run.anchor.1);
        let show = |(segment, ..): &(&Segment, u64, u64)| {
            json!({
                "changed_ms": [ms(segment.from), ms(segment.settled)],
                "pace": segment.runs.map(pace),
                "read_ns_then": segment.runs.map(read),
            })
        };
        shown.map(show).collect()
    }

    fn slack_ns(&self) -> f64 {
        self.options.slack * 1e9
    }

    /// Looks for threads that wait too long, or do nothing else either.
    fn watch(&mut self) {
        let now = ticks();
        let limit_ns = self.slack_ns() + 3.0 * self.noise.recent_ns();
        for slot in 0..self.shared.slots {
            let beat = self.shared.get(slot, Word::Beat);
            if beat != self.seen[slot].beat {
                self.seen[slot].beat = beat;
                self.seen[slot].since = Instant::now();
            }
            let Some((sequence, wait)) = self.shared.waiting(slot) else {
                let began = self.shared.get(slot, Word::Tid) != 0;
                if began && self.seen[slot].since.elapsed() > PAUSE && self.seen[slot].reported != u64::MAX {
                    self.seen[slot].reported = u64::MAX;
                    let found = json!({ "what": "stuck", "thread": self.thread(slot), "state": self.state(slot) });
                    self.violate(found);
                }
                continue;
            };
            if self.seen[slot].reported == sequence || now <= wait.began {
                continue;
            }
            let late_ns = self.history.late_ns(&wait, now);
            if late_ns <= limit_ns {
                continue;
            }
            let state = self.state(slot);
            // Whoever is about to run does not hang, unless that takes for ever.
            if state.0 == "R" && late_ns < PAUSE.as_nanos() as f64 {
                continue;
            }
            // Looked at once more: it may have ended since.
            if self.shared.waiting(slot).is_none_or(|(later, _)| later != sequence) {
                continue;
            }
            self.seen[slot].reported = sequence;
            let clocks_ns = Family::ALL.map(|family| self.namespace.now_ns(family));
            let woken_ms_ago = (wait.woken != 0).then(|| self.history.between(wait.woken, now) / 1e6);
            let found = json!({
                "what": "hangs", "thread": self.thread(slot), "kind": self.kinds.get(wait.kind),
                "form": format!("{:?}", wait.form), "deadline_ns": wait.deadline_ns,
                "woken_ms_ago": woken_ms_ago,
                "waits_ms": self.history.between(wait.began, now) / 1e6, "late_ms": late_ns / 1e6,
                "clocks_ns": clocks_ns,
                "state": state, "segments": self.segments(wait.began, now),
            });
            self.violate(found);
        }
    }

    /// The letter of `proc_pid_stat(5)`, what the thread calls, and where in the kernel it is.
    fn state(&self, slot: usize) -> (String, String, String) {
        let Some(guest) = self.guests.get(slot / THREADS) else { return Default::default() };
        let folder = format!("/proc/{}/task/{}", guest.child.id(), self.shared.get(slot, Word::Tid));
        let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default().trim().to_owned();
        let stat = read("stat");
        let letter = stat.rsplit_once(") ").and_then(|(_, rest)| rest.get(..1)).unwrap_or("?").to_owned();
        (letter, read("syscall"), read("wchan"))
    }

    fn thread(&self, slot: usize) -> String {
        let build = self.guests.get(slot / THREADS).map_or("?", |guest| guest.build);
        format!("{build} {} (tid {})", slot % THREADS, self.shared.get(slot, Word::Tid))
    }

    fn violate(&mut self, mut found: Value) {
        found["second"] = json!(self.started.elapsed().as_secs_f64());
        eprintln!("VIOLATION {found:#}");
        self.violations.push(found);
    }

    /// A line in between, or the whole result.
    fn report(&self, is_last: bool) {
        let waits: u64 = self.tallies.iter().map(|tally| tally.over + tally.woken + tally.spurious).sum();
        let worst =
            self.kinds.iter().zip(&self.tallies).max_by(|one, other| one.1.latest_ns.total_cmp(&other.1.latest_ns));
        let (worst_kind, worst_ms) = worst.map_or(("", 0.0), |(kind, tally)| (kind, tally.latest_ns / 1e6));
        let changes: u64 = self.changes.values().sum();
        let dropped: u64 = (0..self.shared.slots).map(|slot| self.shared.get(slot, Word::Dropped)).sum();
        let seconds = self.started.elapsed().as_secs();
        let kinds: BTreeMap<_, _> = self
            .kinds
            .iter()
            .zip(&self.tallies)
            .map(|(kind, tally)| {
                let Tally { over, woken, spurious, latest_ns, earliest_ns, short, shortest_ns } = *tally;
                (
                    kind,
                    json!({
                        "over": over, "woken": woken, "spurious": spurious, "latest_ms": latest_ns / 1e6,
                        "earliest_ms": earliest_ns / 1e6, "short": short, "shortest_ms": shortest_ns / 1e6,
                    }),
                )
            })
            .collect();
        if self.json {
            let guests: Vec<_> = self.guests.iter().map(|guest| guest.build).collect();
            let mut line = json!({
                "seed": self.seed, "seconds": seconds, "guests": guests, "waits": waits, "changes": self.changes,
                "refused": self.refused, "unjudged": dropped, "kinds": kinds, "violations": self.violations.len(),
            });
            if is_last {
                line["violations"] = json!(self.violations);
            }
            println!("{line}");
            return;
        }
        let violations = self.violations.len();
        println!(
            "{seconds} s: {waits} waits, {changes} changes ({} refused), latest {worst_ms:.1} ms ({worst_kind}), \
             {dropped} unjudged, {violations} violations; seed {}",
            self.refused, self.seed
        );
        let each = self.kinds.iter().zip(&self.tallies).filter(|(_, tally)| tally.over + tally.woken > 0);
        if !is_last {
            let each: Vec<_> = each.map(|(kind, tally)| format!("{kind} {}", tally.over + tally.woken)).collect();
            println!("  {}", each.join(", "));
            return;
        }
        println!("\n| kind | over | woken | spurious | latest ms | short | shortest ms |");
        println!("| --- | --: | --: | --: | --: | --: | --: |");
        for (kind, tally) in each {
            let Tally { over, woken, spurious, latest_ns, short, shortest_ns, .. } = tally;
            let (latest_ms, shortest_ms) = (latest_ns / 1e6, shortest_ns / 1e6);
            println!("| {kind} | {over} | {woken} | {spurious} | {latest_ms:.1} | {short} | {shortest_ms:.1} |");
        }
        println!("\nlatest: by the host, after the time was over; short: by the program's clock, in its nanoseconds");
        let changes: Vec<_> = self.changes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        println!("\nchanges: {}", changes.join(", "));
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        for guest in &mut self.guests {
            // It may have ended by itself, which has been reported then.
            _ = guest.child.kill();
            _ = guest.child.wait();
        }
        // What cannot be removed lies in the directory for temporary files.
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// What the host's clock of a family reads.
fn host_now_ns(family: Family) -> i64 {
    let id = match family {
        Family::Realtime => libc::CLOCK_REALTIME,
        Family::Monotonic => libc::CLOCK_MONOTONIC,
        Family::Boottime => libc::CLOCK_BOOTTIME,
    };
    crate::clocks::read_ns(id) as i64
}

fn compile(compiler: &str, flags: &[&str], program: &Path) -> std::result::Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/soak.c");
    let mut command = std::process::Command::new(compiler);
    command.args(flags).args(["-O2", "-pthread", "-o"]).arg(program).arg(source).arg("-lrt");
    let output = command.output().map_err(|error| format!("{compiler}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    Err(format!("{compiler}: {}", message.lines().last().unwrap_or("failed")))
}
