//! The surface of the 32-bit interface (`int 0x80`, `sysenter`): each call by the 64-bit one that means the same, and
//! what its structures look like.
//!
//! A caught call of a 32-bit program is *widened*: the times in its arguments become those of the 64-bit call, which is
//! then translated as any other, and what that has written is narrowed again. So when a call is caught, and what is
//! done about it, is said once, in [`surface`](crate::surface). Numbers are those of x86's 32-bit table
//! (`arch/x86/entry/syscalls/syscall_32.tbl`).

#[cfg(not(vdso_image))]
use crate::surface::{Need, Row, Rule, Test, rows};

/// The number of no system call, always caught: a cancelling signal has found a thread.
pub const CANCELS: u32 = 0x2_e15e;

/// The number of no system call, always caught: the program's own handler for `SIGSYS` has returned.
pub const HANDLED: u32 = 0x3_e15e;

/// What of a call's structures differs from those of its 64-bit equal.
///
/// Bits: 0 to 3 the argument that is read, 4 to 7 how many words of it; 8 to 11 and 12 to 15 the same of what is written;
/// 16 whether the words have 64 bits already; from 20 the [`Kind`]. Argument 15 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(u32);

/// Which call the kernel gets where a call is not a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The 64-bit call.
    Native,
    /// The caller's own, whose structures nobody touches.
    Own,
    /// The caller's own; the file times in its buffer are put right afterwards.
    Stat,
    /// The 64-bit call, with a `struct timex`.
    Timex,
    /// The 64-bit call, with a socket option in arguments 2 to 4.
    Option,
    /// Another call in disguise, or one that is about signals.
    Special,
    /// None: ENOSYS.
    Refused,
}

const NONE: u32 = 0xf0f;

impl Shape {
    const fn of(kind: Kind) -> Self {
        Self(NONE | (kind as u32) << 20)
    }

    /// Reads 32-bit words.
    const fn reads(argument: u32, words: u32) -> Self {
        Self(0xf00 | argument | words << 4)
    }

    /// Reads 64-bit words, of which the upper halves of nanoseconds are padding.
    const fn padded(argument: u32, words: u32) -> Self {
        Self(0xf00 | argument | words << 4 | 1 << 16)
    }

    /// Also writes as many words.
    const fn writes(self, argument: u32) -> Self {
        let words = if self.0 & 0xf0 == 0 { 0x20 } else { self.0 & 0xf0 };
        Self(self.0 & !0xff00 | argument << 8 | words << 8)
    }

    /// Writes 32-bit words.
    const fn out(argument: u32, words: u32) -> Self {
        Self(0xf | argument << 8 | words << 12)
    }

    /// With another [`Kind`].
    const fn as_kind(self, kind: Kind) -> Self {
        Self(self.0 & 0xf_ffff | (kind as u32) << 20)
    }

    /// The argument that is read and how many words.
    pub const fn read(self) -> Option<(u8, usize)> {
        let argument = self.0 & 0xf;
        if argument == 0xf { None } else { Some((argument as u8, (self.0 >> 4 & 0xf) as usize)) }
    }

    /// The argument that is written and how many words.
    pub const fn written(self) -> Option<(u8, usize)> {
        let argument = self.0 >> 8 & 0xf;
        if argument == 0xf { None } else { Some((argument as u8, (self.0 >> 12 & 0xf) as usize)) }
    }

    /// Whether the words have 64 bits.
    pub const fn is_wide(self) -> bool {
        self.0 >> 16 & 1 == 1
    }

    /// Which call the kernel gets.
    pub const fn kind(self) -> Kind {
        match self.0 >> 20 {
            0 => Kind::Native,
            1 => Kind::Own,
            2 => Kind::Stat,
            3 => Kind::Timex,
            4 => Kind::Option,
            5 => Kind::Special,
            _ => Kind::Refused,
        }
    }
}

/// One system call of the 32-bit interface.
#[cfg(not(vdso_image))]
#[derive(Clone, Copy, Debug)]
pub struct Row32 {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// The number of the 64-bit call that it is taken for.
    pub native: u32,
    /// What differs.
    pub shape: Shape,
}

macro_rules! surface32 {
    ($($number:literal $name:ident $native:literal $shape:expr;)*) => {
        /// The 64-bit call that a call of the surface is taken for, and what differs.
        pub const fn native(number: u32) -> Option<(u32, Shape)> {
            match number {
                $($number => Some(($native, const { $shape })),)*
                _ => None,
            }
        }

        /// The table, ordered by number.
        #[cfg(not(vdso_image))]
        pub const ROWS32: &[Row32] = &[$(Row32 { number: $number, name: stringify!($name), native: $native, shape: $shape }),*];
    };
}

const SAME: Shape = Shape::of(Kind::Native);
const OWN: Shape = Shape::of(Kind::Own);
const SPECIAL: Shape = Shape::of(Kind::Special);
const REFUSED: Shape = Shape::of(Kind::Refused);

surface32! {
    13 time 201 Shape::out(0, 1);
    18 oldstat 4 REFUSED;
    25 stime 164 SPECIAL;
    27 alarm 37 SAME;
    28 oldfstat 5 REFUSED;
    30 utime 132 Shape::reads(1, 2);
    43 times 100 Shape::out(0, 4);
    48 signal 13 REFUSED;
    67 sigaction 13 REFUSED;
    69 ssetmask 14 REFUSED;
    72 sigsuspend 130 REFUSED;
    78 gettimeofday 96 Shape::out(0, 2);
    79 settimeofday 164 Shape::reads(0, 2);
    82 old_select 23 SPECIAL;
    84 oldlstat 6 REFUSED;
    102 socketcall 54 SPECIAL;
    104 setitimer 38 Shape::reads(1, 4).writes(2);
    105 getitimer 36 Shape::out(1, 4);
    106 stat 4 Shape::out(1, 8).as_kind(Kind::Stat);
    107 lstat 6 Shape::out(1, 8).as_kind(Kind::Stat);
    108 fstat 5 Shape::out(1, 8).as_kind(Kind::Stat);
    116 sysinfo 99 Shape::out(0, 1).as_kind(Kind::Own);
    117 ipc 220 SPECIAL;
    124 adjtimex 159 Shape::reads(0, 0).as_kind(Kind::Timex);
    126 sigprocmask 14 REFUSED;
    142 _newselect 23 SPECIAL;
    162 nanosleep 35 Shape::reads(0, 2).writes(1);
    168 poll 7 SAME;
    172 prctl 157 OWN;
    174 rt_sigaction 13 SPECIAL;
    175 rt_sigprocmask 14 SPECIAL;
    176 rt_sigpending 127 SAME;
    177 rt_sigtimedwait 128 Shape::reads(2, 2);
    179 rt_sigsuspend 130 SAME;
    195 stat64 4 Shape::out(1, 0).as_kind(Kind::Stat);
    196 lstat64 6 Shape::out(1, 0).as_kind(Kind::Stat);
    197 fstat64 5 Shape::out(1, 0).as_kind(Kind::Stat);
    240 futex 202 Shape::reads(3, 2);
    247 io_getevents 208 Shape::reads(4, 2);
    256 epoll_wait 232 SAME;
    259 timer_create 222 OWN;
    260 timer_settime 223 Shape::reads(2, 4).writes(3);
    261 timer_gettime 224 Shape::out(1, 4);
    263 timer_delete 226 SAME;
    264 clock_settime 227 Shape::reads(1, 2);
    265 clock_gettime 228 Shape::out(1, 2);
    266 clock_getres 229 Shape::out(1, 2);
    267 clock_nanosleep 230 Shape::reads(2, 2).writes(3);
    271 utimes 235 Shape::reads(1, 4);
    279 mq_timedsend 242 Shape::reads(4, 2);
    280 mq_timedreceive 243 Shape::reads(4, 2);
    299 futimesat 261 Shape::reads(2, 4);
    300 fstatat64 262 Shape::out(2, 0).as_kind(Kind::Stat);
    308 pselect6 270 Shape::reads(4, 2).writes(4);
    309 ppoll 271 Shape::reads(2, 2).writes(2);
    319 epoll_pwait 281 SAME;
    320 utimensat 280 Shape::reads(2, 4);
    325 timerfd_settime 286 Shape::reads(2, 4).writes(3);
    326 timerfd_gettime 287 Shape::out(1, 4);
    337 recvmmsg 299 Shape::reads(4, 2).writes(4);
    343 clock_adjtime 305 Shape::reads(1, 0).as_kind(Kind::Timex);
    354 seccomp 317 OWN;
    365 getsockopt 55 Shape::of(Kind::Option);
    366 setsockopt 54 Shape::of(Kind::Option);
    383 statx 332 SAME;
    385 io_pgetevents 333 Shape::reads(4, 2);
    403 clock_gettime64 228 SAME;
    404 clock_settime64 227 Shape::padded(1, 2);
    405 clock_adjtime64 305 SAME;
    406 clock_getres_time64 229 SAME;
    407 clock_nanosleep_time64 230 Shape::padded(2, 2);
    408 timer_gettime64 224 SAME;
    409 timer_settime64 223 Shape::padded(2, 4);
    410 timerfd_gettime64 287 SAME;
    411 timerfd_settime64 286 Shape::padded(2, 4);
    412 utimensat_time64 280 Shape::padded(2, 4);
    413 pselect6_time64 270 Shape::padded(4, 2).writes(4);
    414 ppoll_time64 271 Shape::padded(2, 2).writes(2);
    416 io_pgetevents_time64 333 Shape::padded(4, 2);
    417 recvmmsg_time64 299 Shape::padded(4, 2).writes(4);
    418 mq_timedsend_time64 242 Shape::padded(4, 2);
    419 mq_timedreceive_time64 243 Shape::padded(4, 2);
    420 semtimedop_time64 220 Shape::padded(3, 2);
    421 rt_sigtimedwait_time64 128 Shape::padded(2, 2);
    422 futex_time64 202 Shape::padded(3, 2);
    425 io_uring_setup 425 REFUSED;
    435 clone3 435 REFUSED;
    441 epoll_pwait2 441 Shape::padded(3, 2);
    449 futex_waitv 449 Shape::padded(3, 2);
    455 futex_wait 455 Shape::padded(4, 2);
}

#[cfg(not(vdso_image))]
impl Row32 {
    /// The row of its 64-bit equal.
    ///
    /// # Panics
    /// Never: a test sees to that.
    pub fn row(&self) -> &'static Row {
        rows().find(|row| row.number == self.native).expect("every equal is of the surface")
    }

    /// When it is caught: as its equal, but where its arguments are in other places.
    pub fn rules(&self) -> &'static [Rule] {
        use Test::{Bits, Given};
        const ALL_BITS: u32 = u32::MAX;
        const SOCKETCALL: &[Rule] = &[
            Rule { need: Need::Rate, tests: &[Bits(0, ALL_BITS, 14)] },
            Rule { need: Need::Rate, tests: &[Bits(0, ALL_BITS, 15)] },
            Rule { need: Need::Rate, tests: &[Bits(0, ALL_BITS, 19)] },
        ];
        match self.number {
            102 => SOCKETCALL,
            117 => &[Rule { need: Need::Rate, tests: &[Bits(0, 0xffff, 4), Given(5)] }],
            25 | 69 | 126 => &[Rule { need: Need::Any, tests: &[] }],
            82 => &[Rule { need: Need::Rate, tests: &[] }],
            _ => self.row().rules,
        }
    }

    /// Whether it fails with ENOSYS.
    pub fn is_refused(&self) -> bool {
        self.shape.kind() == Kind::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_and_have_an_equal() {
        assert!(ROWS32.is_sorted_by(|one, other| one.number < other.number));
        for row in ROWS32 {
            assert_eq!(row.row().number, row.native);
            assert!(!row.rules().is_empty(), "{}", row.name);
            assert_eq!(native(row.number), Some((row.native, row.shape)));
        }
        assert_eq!((0..1000).filter(|number| native(*number).is_some()).count(), ROWS32.len());
    }

    #[test]
    fn every_call_of_the_surface_has_an_equal_among_the_32_bit_ones() {
        for row in rows() {
            assert!(ROWS32.iter().any(|narrow| narrow.native == row.number), "{}", row.name);
        }
    }

    #[test]
    fn shapes_say_what_they_were_made_of() {
        let (native, shape) = native(267).unwrap();
        assert_eq!((native, shape.read(), shape.written()), (230, Some((2, 2)), Some((3, 2))));
        assert!(!shape.is_wide() && shape.kind() == Kind::Native);
        let (_, shape) = self::native(413).unwrap();
        assert_eq!((shape.read(), shape.written(), shape.is_wide()), (Some((4, 2)), Some((4, 2)), true));
        let (_, shape) = self::native(265).unwrap();
        assert_eq!((shape.read(), shape.written()), (None, Some((1, 2))));
        let (_, shape) = self::native(300).unwrap();
        assert_eq!((shape.written(), shape.kind()), (Some((2, 0)), Kind::Stat));
    }
}
