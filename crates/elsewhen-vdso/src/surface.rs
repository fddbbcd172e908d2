//! The surface: every system call that carries time or can keep `SIGSYS` from a thread, what its arguments
//! are, and when a namespace has to catch it.
//!
//! One table with several readers: the host side compiles it into the members' filter, the image decides by it
//! what to do with a call that was caught, `docs/SURFACE.md` is written from it, and a test insists on a
//! behaviour test for each row. Numbers are those of x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`), then those of arm64
//! (`include/uapi/asm-generic/unistd.h`), which has no call for what another one does as well.

#[cfg(not(vdso_image))]
use crate::clock::ClockId;
use crate::clock::{Family, RawClockId, TIMELINES, Timeline};
use crate::native::{ABSENT, native};

/// What the filter says about a call that it catches, in `si_errno`: the program may have filters of its own.
pub const TRAP_MARK: u16 = 0xe15e;

/// The number of no system call, always caught: a wait is over that the handler has translated.
#[cfg(target_arch = "x86_64")]
pub const WAIT_IS_OVER: u32 = 0x1_e15e;

/// The number of `rt_sigreturn`, which every filter of a program's own must let through, caught in one place of the image: a
/// wait is over that the handler has translated.
#[cfg(target_arch = "aarch64")]
pub const WAIT_IS_OVER: u32 = 139;

/// The value of a queued `SIGSYS` with which the host side makes a wait look at the page again.
pub const WAKE_MARK: u64 = 0xe15e_0001_7761_6b65;

/// As [`WAKE_MARK`]; the image also sets the process's armed timers anew.
pub const WAKE_TIMERS_MARK: u64 = 0xe15e_0001_7469_6d65;

/// The call by which a member speaks to its supervisor, and its first argument: `arch_prctl(ARCH_SET_FS)`, which the filter
/// announces anyway, with a word in place of the address.
#[cfg(target_arch = "x86_64")]
pub const ASK: (u32, u64) = (158, 0x1002);

/// The call by which a member speaks to its supervisor, and its first argument: no system call has that number.
#[cfg(target_arch = "aarch64")]
pub const ASK: (u32, u64) = (0x2_e15e, 0);

/// With this in its second argument, [`ASK`] asks the supervisor to set REALTIME: the third argument
/// is the address of eight bytes of nanoseconds, or 0 to ask whether that is allowed.
pub const WORD_SET_CLOCK: u64 = 0xe15e_0001_0000_0003;

/// As [`WORD_SET_CLOCK`]: tells the supervisor that a filter of the program's own has been refused.
pub const WORD_CONFINED: u64 = 0xe15e_0001_0000_0005;

/// As [`WORD_SET_CLOCK`]: asks the supervisor for `adjtimex(2)` with a `struct timex`.
pub const WORD_ADJUST_CLOCK: u64 = 0xe15e_0001_0000_0004;

/// As [`WORD_SET_CLOCK`]: asks the supervisor for a descriptor of a filter for the reach in the third argument.
pub const WORD_FILTER: u64 = 0xe15e_0001_0000_0006;

/// As [`WORD_SET_CLOCK`]: asks the supervisor for a descriptor of a page: 1 for the tree's own, else the inode of a named
/// one.
pub const WORD_PAGE: u64 = 0xe15e_0001_0000_0007;

/// As [`WORD_SET_CLOCK`]: said by the stub of a running process that is to become a member, which asks for a descriptor of
/// the image, and then, with 1 for its third argument, says that it has mapped that.
pub const WORD_ATTACH: u64 = 0xe15e_0001_0000_0008;

/// Added to the number of a call that is made by the x32 interface.
pub const X32_BIT: u32 = 0x4000_0000;

/// Calls of the surface that have numbers of their own in the x32 interface, since their structures are others: those, and
/// the native ones.
pub const X32_OWN: [(u32, u32); 7] = [(512, 13), (522, 127), (523, 128), (526, 222), (537, 299), (541, 54), (542, 55)];

/// The native number of a call that may be one of the x32 interface.
#[cfg(target_arch = "x86_64")]
pub const fn native_of(number: u32) -> u32 {
    if number & X32_BIT == 0 {
        return number;
    }
    // As a match, since a loop would read a table.
    match number & !X32_BIT {
        512 => 13,
        522 => 127,
        523 => 128,
        526 => 222,
        537 => 299,
        541 => 54,
        542 => 55,
        common => common,
    }
}

/// There is one interface.
#[cfg(target_arch = "aarch64")]
pub const fn native_of(number: u32) -> u32 {
    number
}

/// What the image does with a call that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the clock in argument 0 into argument 1.
    ClockGettime,
    /// Reads REALTIME into a `timeval` in argument 0.
    Gettimeofday,
    /// Reads REALTIME in seconds.
    Time,
    /// Reads a clock's resolution.
    ClockGetres,
    /// Fills in the uptime, which is BOOTTIME.
    Sysinfo,
    /// Returns ticks of MONOTONIC.
    Times,
    /// Reads or disciplines REALTIME; `struct timex` in argument 0 or, with a clock, in argument 1.
    Adjtimex,
    /// As [`Adjtimex`](Self::Adjtimex), with the clock in argument 0.
    ClockAdjtime,
    /// Sets REALTIME from argument 1.
    ClockSettime,
    /// Sets REALTIME from argument 0.
    Settimeofday,
    /// Sleeps for or until argument 2 on the clock in argument 0.
    ClockNanosleep,
    /// Sleeps for argument 0.
    Nanosleep,
    /// Waits on an address, in one of many ways.
    Futex,
    /// Waits on several addresses until argument 3 on the clock in argument 4.
    FutexWaitv,
    /// Waits on an address until argument 4 on the clock in argument 5.
    FutexWait,
    /// Makes a timer on the clock in argument 0.
    TimerCreate,
    /// Arms a timer.
    TimerSettime,
    /// Says what remains of a timer.
    TimerGettime,
    /// Deletes a timer.
    TimerDelete,
    /// Arms a timer descriptor.
    TimerfdSettime,
    /// Says what remains of a timer descriptor.
    TimerfdGettime,
    /// Arms an interval timer.
    Setitimer,
    /// Says what remains of an interval timer.
    Getitimer,
    /// Arms the alarm, in seconds.
    Alarm,
    /// Waits until argument 4 on REALTIME.
    MqTimed,
    /// Waits for argument 2, in milliseconds.
    Poll,
    /// Waits for argument 2, with the signal mask in argument 3.
    Ppoll,
    /// Waits for argument 4, a `timeval`.
    Select,
    /// Waits for argument 4, with the signal mask in argument 5.
    Pselect6,
    /// Waits for argument 3, in milliseconds.
    EpollWait,
    /// Waits for argument 3, in milliseconds, with the signal mask in argument 4.
    EpollPwait,
    /// Waits for argument 3, with the signal mask in argument 4.
    EpollPwait2,
    /// Waits for argument 4.
    Recvmmsg,
    /// Waits for argument 3.
    Semtimedop,
    /// Waits for argument 4.
    IoGetevents,
    /// Waits for argument 4, with the signal mask in argument 5.
    IoPgetevents,
    /// Sets how long calls on a socket wait.
    Setsockopt,
    /// Says how long calls on a socket wait.
    Getsockopt,
    /// Waits for a signal, for argument 2.
    RtSigtimedwait,
    /// Sets what a signal does.
    RtSigaction,
    /// Blocks signals.
    RtSigprocmask,
    /// Says which signals are pending.
    RtSigpending,
    /// Waits for a signal, with the signal mask in argument 0.
    RtSigsuspend,
    /// Tells a file's times, in a `struct stat` in argument 1.
    Stat,
    /// Tells a file's times, in a `struct stat` in argument 2.
    Fstatat,
    /// Tells a file's times, in a `struct statx` in argument 4.
    Statx,
    /// Sets a file's times from argument 2.
    SetTimes,
    /// Sets a file's times from two `timeval`s in argument 2.
    Futimesat,
    /// Sets a file's times from two `timeval`s in argument 1.
    Utimes,
    /// Sets a file's times, in seconds, from argument 1.
    Utime,
    /// Loads a filter of the program's own.
    Confine,
    /// Never made: fails in the filter.
    Refuse,
}

/// What a namespace can do to its clocks while members run. Members carry it with their filter, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// MONOTONIC can be moved.
    pub monotonic: bool,
    /// BOOTTIME can be moved.
    pub boottime: bool,
    /// MONOTONIC's pace can differ from the host's, and with it that of every relative wait.
    pub rate: bool,
    /// Members may set and discipline REALTIME.
    pub settable: bool,
    /// File times are shown and set by the member's REALTIME.
    pub files: bool,
}

impl Reach {
    /// Every clock.
    pub const ALL: Self = Self { monotonic: true, boottime: true, rate: true, settable: false, files: false };

    /// REALTIME only, at any pace: what every namespace can do.
    pub const LEAST: Self = Self { monotonic: false, boottime: false, rate: false, settable: false, files: false };

    /// Whether a family of clocks can be moved.
    pub const fn moves(self, family: Family) -> bool {
        match family {
            Family::Realtime => true,
            Family::Monotonic => self.monotonic,
            Family::Boottime => self.boottime,
        }
    }

    /// Whether the timeline in a place of the page can be moved; none is in a place beyond.
    #[inline(always)]
    const fn moves_place(self, place: usize) -> bool {
        // As a mask, since a match would read a table.
        let monotonic = (1 << Timeline::Monotonic as u8) | (1 << Timeline::Raw as u8);
        let mask = (1 << Timeline::Realtime as u8)
            | (1 << Timeline::Tai as u8)
            | if self.monotonic { monotonic } else { 0 }
            | if self.boottime { 1 << Timeline::Boottime as u8 } else { 0 };
        place < TIMELINES && mask >> place & 1 == 1
    }

    /// As one word, for the image.
    pub const fn to_bits(self) -> u64 {
        self.monotonic as u64
            | (self.boottime as u64) << 1
            | (self.rate as u64) << 2
            | (self.settable as u64) << 3
            | (self.files as u64) << 4
    }

    /// From [`to_bits`](Self::to_bits).
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            monotonic: bits & 1 != 0,
            boottime: bits & 2 != 0,
            rate: bits & 4 != 0,
            settable: bits & 8 != 0,
            files: bits & 16 != 0,
        }
    }

    /// Whether a filter for this catches everything that one for `other` does.
    pub const fn includes(self, other: Self) -> bool {
        self.to_bits() & other.to_bits() == other.to_bits()
    }

    /// Whether this can do everything that `other` can.
    pub const fn covers(self, other: Self) -> bool {
        (self.monotonic || !other.monotonic) && (self.boottime || !other.boottime) && (self.rate || !other.rate)
    }
}

/// When a rule applies to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Any,
    /// Where MONOTONIC can be moved.
    Monotonic,
    /// Where BOOTTIME can be moved.
    Boottime,
    /// Where MONOTONIC's pace can differ from the host's.
    Rate,
    /// Where files follow.
    Files,
}

impl Need {
    /// Whether the rule applies.
    pub const fn holds(self, reach: Reach) -> bool {
        match self {
            Self::Any => true,
            Self::Monotonic => reach.monotonic,
            Self::Boottime => reach.boottime,
            Self::Rate => reach.rate,
            Self::Files => reach.files,
        }
    }
}

/// A condition on one argument of a call, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The low word, masked, has this value.
    Bits(u8, u32, u32),
    /// The argument, a pointer, is not null.
    Given(u8),
    /// The low word, a signed number, is above zero.
    Positive(u8),
    /// The low word is the id of a clock that the namespace can move.
    Moved(u8),
}

/// Conditions that together make a call one to catch.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Which namespaces it is for.
    pub need: Need,
    /// All of these hold.
    pub tests: &'static [Test],
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number on this machine.
    pub number: u32,
    /// Its number on arm64; `_` for none.
    pub arm64: &'static str,
    /// Its name, as in its man page.
    pub name: &'static str,
    /// What is done when it is caught.
    pub action: Action,
    /// It is caught where one of these holds.
    pub rules: &'static [Rule],
    /// What becomes of its arguments.
    pub note: &'static str,
}

/// One `const` table for the host, one `match` without pointers for the image.
macro_rules! surface {
    ($($x86:literal $arm64:tt $name:ident $action:ident [$($need:ident $([$($test:expr),*])?),*] $note:literal;)*) => {
        /// What to do with a call of this number, or of one of the x32 interface.
        #[allow(unreachable_patterns, reason = "calls that a machine does not have share a number")]
        pub const fn action(number: u32) -> Option<Action> {
            match native_of(number) {
                ABSENT => None,
                $(native!($x86 $arm64) => Some(Action::$action),)*
                _ => None,
            }
        }

        /// Whether a namespace catches a call of this number with these arguments.
        ///
        /// The filter knows; but calls also come to the image without having been filtered.
        #[allow(unreachable_patterns, reason = "calls that a machine does not have share a number")]
        pub fn catches(number: u32, reach: Reach, args: impl Fn(u8) -> u64) -> bool {
            match native_of(number) {
                ABSENT => false,
                $(native!($x86 $arm64) => false $(|| (Need::$need.holds(reach) $($(&& $test.holds(reach, &args))*)?))*,)*
                _ => false,
            }
        }

        /// The table, ordered by the numbers of x86-64.
        #[cfg(not(vdso_image))]
        const TABLE: &[Row] = &[$(Row {
            number: native!($x86 $arm64),
            arm64: stringify!($arm64),
            name: stringify!($name),
            action: Action::$action,
            rules: &[$(Rule { need: Need::$need, tests: &[$($($test),*)?] }),*],
            note: $note,
        }),*];
    };
}

/// The table's calls that this machine has.
#[cfg(not(vdso_image))]
pub fn rows() -> impl Iterator<Item = &'static Row> + Clone {
    TABLE.iter().filter(|row| row.number != ABSENT)
}

use Test::{Bits, Given, Moved, Positive};

const ALL_BITS: u32 = u32::MAX;
/// The command and the clock of a `futex(2)` operation, without the private flag.
const FUTEX: u32 = 0x17f;
/// `FUTEX_CLOCK_REALTIME`.
const REAL: u32 = 0x100;

surface! {
    4 _ stat Stat [Files] "times are shown by the member's REALTIME, where files follow";
    5 80 fstat Stat [Files] "as stat";
    6 _ lstat Stat [Files] "as stat";
    7 _ poll Poll [Rate [Positive(2)]] "timeout: relative, ms";
    13 134 rt_sigaction RtSigaction [Any] "`SIGSYS` is taken out of the mask and its own action is kept apart";
    14 135 rt_sigprocmask RtSigprocmask [Any] "`SIGSYS` is taken out of the set and remembered for the thread";
    23 _ select Select [Rate [Given(4)]] "timeout: relative `timeval`, what remains is written back";
    35 101 nanosleep Nanosleep [Rate] "relative; what remains is scaled back";
    36 102 getitimer Getitimer [Rate [Bits(0, ALL_BITS, 0)]] "`ITIMER_REAL`: remaining time and interval are scaled back";
    37 _ alarm Alarm [Rate] "relative, s; what remained is scaled back";
    38 103 setitimer Setitimer [Rate [Bits(0, ALL_BITS, 0)]] "`ITIMER_REAL`: relative; the old value is scaled back";
    54 208 setsockopt Setsockopt [
        Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 20)], Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 21)],
        Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 66)], Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 67)]
    ] "`SO_RCVTIMEO`, `SO_SNDTIMEO`: relative";
    55 209 getsockopt Getsockopt [
        Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 20)], Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 21)],
        Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 66)], Rate [Bits(1, ALL_BITS, 1), Bits(2, ALL_BITS, 67)]
    ] "`SO_RCVTIMEO`, `SO_SNDTIMEO`: scaled back";
    96 169 gettimeofday Gettimeofday [Any] "reads REALTIME";
    99 179 sysinfo Sysinfo [Boottime] "`uptime` is BOOTTIME";
    100 153 times Times [Monotonic] "the result moves with MONOTONIC; CPU times do not";
    127 136 rt_sigpending RtSigpending [Any] "a `SIGSYS` that the program blocks is shown";
    128 137 rt_sigtimedwait RtSigtimedwait [Any] "timeout: relative; `SIGSYS` is handed over from where it is kept";
    130 133 rt_sigsuspend RtSigsuspend [Any] "`SIGSYS` is taken out of the mask";
    132 _ utime Utime [Files [Given(1)]] "times are stored by the host's REALTIME, where files follow";
    157 167 prctl Confine [Any [Bits(0, ALL_BITS, 22)], Any [Bits(0, ALL_BITS, 59), Bits(1, ALL_BITS, 1)]]
        "`PR_SET_SECCOMP`: as seccomp; `PR_SET_SYSCALL_USER_DISPATCH` fails with EINVAL";
    159 171 adjtimex Adjtimex [Any] "reads REALTIME; sets the namespace's where that is allowed";
    164 170 settimeofday Settimeofday [Any] "sets the namespace's REALTIME where that is allowed";
    201 _ time Time [Any] "reads REALTIME";
    202 98 futex Futex [
        Rate [Bits(1, 0x7f, 0), Given(3)],
        Any [Bits(1, 0x7f, 6), Given(3)],
        Any [Bits(1, FUTEX, REAL | 9), Given(3)], Monotonic [Bits(1, FUTEX, 9), Given(3)],
        Any [Bits(1, FUTEX, REAL | 11), Given(3)], Monotonic [Bits(1, FUTEX, 11), Given(3)],
        Any [Bits(1, FUTEX, REAL | 13), Given(3)], Monotonic [Bits(1, FUTEX, 13), Given(3)]
    ] "`WAIT`: relative; `LOCK_PI`: absolute, REALTIME; `WAIT_BITSET`, `WAIT_REQUEUE_PI`, `LOCK_PI2`: absolute";
    208 4 io_getevents IoGetevents [Rate [Given(4)]] "timeout: relative";
    220 192 semtimedop Semtimedop [Rate [Given(3)]] "timeout: relative";
    222 107 timer_create TimerCreate [Any] "the clock is remembered for the timer";
    223 110 timer_settime TimerSettime [Any] "absolute or relative, with interval";
    224 108 timer_gettime TimerGettime [Rate] "remaining time and interval are scaled back";
    226 111 timer_delete TimerDelete [Any] "the timer's clock is forgotten";
    227 112 clock_settime ClockSettime [Any [Bits(0, ALL_BITS, 0)]] "sets the namespace's REALTIME where that is allowed";
    228 113 clock_gettime ClockGettime [Any [Moved(0)]] "reads the clock";
    229 114 clock_getres ClockGetres [Any [Moved(0)]] "the resolution is scaled by the clock's rate";
    230 115 clock_nanosleep ClockNanosleep [Any [Bits(1, 1, 1), Moved(0)], Rate [Bits(1, 1, 0)]] "absolute or relative";
    232 _ epoll_wait EpollWait [Rate [Positive(3)]] "timeout: relative, ms";
    235 _ utimes Utimes [Files [Given(1)]] "as utime";
    242 182 mq_timedsend MqTimed [Any [Given(4)]] "absolute, REALTIME";
    243 183 mq_timedreceive MqTimed [Any [Given(4)]] "absolute, REALTIME";
    261 _ futimesat Futimesat [Files [Given(2)]] "as utime";
    262 79 newfstatat Fstatat [Files] "as stat";
    270 72 pselect6 Pselect6 [Any [Given(5)], Rate [Given(4)]] "timeout: relative, written back; `SIGSYS` leaves the mask";
    271 73 ppoll Ppoll [Any [Given(3)], Rate [Given(2)]] "timeout: relative, written back; `SIGSYS` leaves the mask";
    280 88 utimensat SetTimes [Files [Given(2)]] "as utime";
    281 22 epoll_pwait EpollPwait [Any [Given(4)], Rate [Positive(3)]] "timeout: relative, ms; `SIGSYS` leaves the mask";
    286 86 timerfd_settime TimerfdSettime [Any [Bits(1, 1, 1)], Rate] "absolute or relative, with interval";
    287 87 timerfd_gettime TimerfdGettime [Rate] "remaining time and interval are scaled back";
    299 243 recvmmsg Recvmmsg [Rate [Given(4)]] "timeout: relative, written back";
    305 266 clock_adjtime ClockAdjtime [Any [Bits(0, ALL_BITS, 0)]] "as adjtimex";
    317 277 seccomp Confine [Any [Bits(0, ALL_BITS, 1)]] "a filter that forbids `rt_sigreturn` is refused with EPERM, and reported";
    332 291 statx Statx [Files] "as stat";
    333 292 io_pgetevents IoPgetevents [Any [Given(5)], Rate [Given(4)]] "timeout: relative; `SIGSYS` leaves the mask";
    425 425 io_uring_setup Refuse [Any] "fails with `ENOSYS`: timeouts in a ring cannot be translated";
    435 435 clone3 Refuse [Any] "fails with `ENOSYS`, so that libcs use `clone`: a flag would drop the handler of `SIGSYS`";
    441 441 epoll_pwait2 EpollPwait2 [Any [Given(4)], Rate [Given(3)]] "timeout: relative; `SIGSYS` leaves the mask";
    449 449 futex_waitv FutexWaitv [Any [Given(3), Moved(4)]] "absolute";
    455 455 futex_wait FutexWait [Any [Given(4), Moved(5)]] "absolute";
}

/// The ids of the clocks that a namespace can move.
#[cfg(not(vdso_image))]
pub fn moved_clocks(reach: Reach) -> impl Iterator<Item = ClockId> {
    ClockId::ALL.into_iter().filter(move |clock| reach.moves(Timeline::family(clock.timeline())))
}

impl Test {
    /// Whether a call's arguments pass.
    #[inline(always)]
    fn holds(self, reach: Reach, args: impl Fn(u8) -> u64) -> bool {
        match self {
            Bits(arg, mask, value) => args(arg) as u32 & mask == value,
            Given(arg) => args(arg) != 0,
            Positive(arg) => args(arg) as i32 > 0,
            Moved(arg) => reach.moves_place(RawClockId(args(arg) as i32).place()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_and_known_to_the_image() {
        assert!(TABLE.is_sorted_by_key(|row| row.number) || cfg!(not(target_arch = "x86_64")));
        for row in rows() {
            assert_eq!(action(row.number), Some(row.action), "{}", row.name);
            assert!(!row.rules.is_empty() && !row.note.is_empty(), "{}", row.name);
        }
        assert_eq!((0..2000).filter(|number| action(*number).is_some()).count(), rows().count());
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_of_the_x32_interface_are_taken_for_native_ones() {
        assert!(X32_OWN.iter().all(|(own, native)| native_of(own | X32_BIT) == *native && action(*native).is_some()));
        for number in (0..600).filter(|number| X32_OWN.iter().all(|(own, _)| own != number)) {
            assert_eq!((native_of(number), native_of(number | X32_BIT)), (number, number));
        }
    }

    #[test]
    fn moved_clocks_are_those_that_rules_take_for_moved() {
        for reach in (0..32).map(Reach::from_bits) {
            assert_eq!(Reach::from_bits(reach.to_bits()), reach);
            for raw in -1..64 {
                let listed = moved_clocks(reach).any(|clock| clock as i32 == raw);
                assert_eq!(Moved(0).holds(reach, |_| raw as u64), listed, "clock {raw} for {reach:?}");
            }
        }
    }

    #[test]
    fn a_wider_reach_catches_no_less() {
        let args = [[0; 6], [1; 6], [7; 6], [u64::MAX; 6], [0, 9, 0, 1, 1, 1], [0, 0x109, 0, 1, 1, 0]];
        for (row, args) in rows().flat_map(|row| args.map(|args| (row, args))) {
            if catches(row.number, Reach::LEAST, |arg| args[usize::from(arg)]) {
                assert!(catches(row.number, Reach::ALL, |arg| args[usize::from(arg)]), "{} {args:?}", row.name);
            }
        }
    }
}
