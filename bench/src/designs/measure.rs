//! Timing one function that reads a clock, hot and not.

#![expect(unsafe_code, reason = "calls into vDSOs, flushes caches")]

use crate::Result;
use crate::statistics::Sorted;
use elsewhen_image::elf::Elf;
use elsewhen_standalone::load::{ClockGettime, Vdso};
use std::arch::global_asm;
use std::arch::x86_64::{__rdtscp, _mm_clflush, _mm_lfence, _mm_mfence};
use std::hint::black_box;
use std::ops::Range;

const PAGE: usize = 4096;
const LINE: usize = 64;

/// In what state a call finds the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Call after call.
    Hot,
    /// Its code and data are in no cache.
    Cold,
    /// Many branches have been executed.
    Branches,
    /// Both.
    Both,
}

impl Mode {
    /// All of them, in the order of the variants.
    pub(crate) const ALL: [Self; 4] = [Self::Hot, Self::Cold, Self::Branches, Self::Both];

    /// Name in requests to workers.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Cold => "cold",
            Self::Branches => "branches",
            Self::Both => "both",
        }
    }

    /// Name in tables.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Both => "branches, cold",
            other => other.name(),
        }
    }

    /// The mode of a name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// A function that is measured.
pub(crate) struct Target {
    name: String,
    member: bool,
    function: Option<ClockGettime>,
    /// Addresses of its code and data.
    memory: Vec<Range<usize>>,
    /// What the function is in.
    vdso: Option<Vdso>,
}

impl Target {
    /// The function of an image.
    pub(crate) fn of(vdso: Vdso, member: bool) -> Result<Self> {
        let address = vdso.function("__vdso_clock_gettime").ok_or("the image has no clock_gettime")?;
        let code = vdso.code();
        // The namespace's page, the data page and the code.
        let memory = std::iter::once(code.start - 2 * PAGE..code.end).collect();
        let name = vdso.flavour().name.to_owned();
        Ok(Self { name, member, function: Some(function_at(address)), memory, vdso: Some(vdso) })
    }

    /// The function of this process's own vDSO.
    pub(crate) fn kernel() -> Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        let range = |name: &str| {
            let line = maps.lines().find(|line| line.ends_with(name))?;
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
        };
        let code = range("[vdso]").ok_or("this process has no vDSO")?;
        // SAFETY: mapped and readable for as long as the process lives.
        let bytes = unsafe { std::slice::from_raw_parts(code.start as *const u8, code.len()) };
        let symbol = Elf::x86_64(bytes).and_then(|elf| elf.function("__vdso_clock_gettime"));
        let address = code.start + symbol.ok_or("the vDSO has no clock_gettime")?.value as usize;
        // The offsets of a namespace that changes nothing are zero, and then nobody can tell.
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let inside = offsets.lines().any(|line| line.split_whitespace().skip(1).any(|number| number != "0"));
        let mut memory = vec![code];
        if let Some(data) = range("[vvar]") {
            // The data page; inside a namespace that is the namespace's, and the data are on the next. Of the others some may
            // not be read.
            memory.push(data.start..data.start + if inside { 2 * PAGE } else { PAGE });
        }
        let name = "the kernel's vDSO".to_owned();
        Ok(Self { name, member: inside, function: Some(function_at(address)), memory, vdso: None })
    }

    /// A function in another process, which measures it.
    pub(crate) fn named(name: &str, member: bool) -> Self {
        Self { name: name.to_owned(), member, function: None, memory: Vec::new(), vdso: None }
    }

    /// Name in tables.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is read from inside a namespace.
    pub(crate) const fn is_member(&self) -> bool {
        self.member
    }

    /// The same, for tables.
    pub(crate) const fn side(&self) -> &'static str {
        if self.member { "member" } else { "host" }
    }

    /// The image.
    pub(crate) const fn vdso(&self) -> Option<&Vdso> {
        self.vdso.as_ref()
    }

    /// Whether another process measures it.
    pub(crate) const fn is_elsewhere(&self) -> bool {
        self.function.is_none()
    }
}

fn function_at(address: usize) -> ClockGettime {
    // SAFETY: the address is of a `clock_gettime`, which has this signature.
    unsafe { std::mem::transmute::<usize, ClockGettime>(address) }
}

/// Ticks per call: the mean of a loop, or the median of calls that are timed alone.
///
/// # Panics
/// Where another process measures the target.
pub(crate) fn ticks(target: &Target, mode: Mode, clock: u32, calls: u32) -> f64 {
    let function = target.function.expect("another process is asked");
    let mut time = [0_i64; 2];
    let mut call = || {
        // SAFETY: the pointer is to a place for a timespec.
        let result = unsafe { function(clock, &mut time) };
        black_box((result, &time));
    };
    if mode == Mode::Hot {
        let started = now();
        for _ in 0..calls {
            call();
        }
        return (now() - started) as f64 / f64::from(calls);
    }
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    // Where code was never executed by this processor, the first call takes a fault.
    call();
    Sorted::new((0..calls).map(|_| {
        if matches!(mode, Mode::Branches | Mode::Both) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // SAFETY: takes a number and jumps by its bits.
            unsafe { elsewhen_bench_branches(seed) };
        }
        if matches!(mode, Mode::Cold | Mode::Both) {
            target.memory.iter().for_each(flush);
        }
        // SAFETY: orders memory; every x86-64 processor has it.
        unsafe { _mm_mfence() };
        let started = now();
        call();
        (now() - started) as f64
    }))
    .median()
}

/// The time stamp counter, between what comes before and behind.
fn now() -> u64 {
    let mut processor = 0;
    // SAFETY: every x86-64 processor of today has it; `processor` is a place to write to.
    let now = unsafe { __rdtscp(&raw mut processor) };
    // SAFETY: every x86-64 processor has it.
    unsafe { _mm_lfence() };
    now
}

fn flush(range: &Range<usize>) {
    for line in range.clone().step_by(LINE) {
        // SAFETY: mapped and readable; flushing changes nothing but time.
        unsafe { _mm_clflush(line as *const u8) };
    }
}

unsafe extern "C" {
    /// 16384 branches, each of them taken or not by a bit of the argument.
    fn elsewhen_bench_branches(bits: u64);
}

global_asm!(
    ".pushsection .text",
    ".globl elsewhen_bench_branches",
    ".type elsewhen_bench_branches, @function",
    "elsewhen_bench_branches:",
    ".rept 16384",
    "ror rdi, 1",
    "jc 2f",
    "2:",
    ".endr",
    "ret",
    ".size elsewhen_bench_branches, . - elsewhen_bench_branches",
    ".popsection",
);
