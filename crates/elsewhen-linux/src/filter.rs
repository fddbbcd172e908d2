//! The members' filter, compiled from the surface table for what one namespace can do.
//!
//! Three things happen in it. Programs about to be executed, and the one call with which a program that uses
//! thread-local storage sets it up at its start, are *announced* to the supervisor (`SECCOMP_RET_USER_NOTIF`). Calls
//! of the surface are *caught* (`SECCOMP_RET_TRAP`) where this namespace can change what they mean, unless they come
//! from the image. Everything else is allowed by its number alone, so that it stays in the kernel's constant-action
//! bitmap and costs no run of the filter: the instruction pointer is loaded last.
//!
//! A filter stays with a process for ever, over every `execve(2)`; so the image has to be at the same address in
//! every program.

use crate::page::{IMAGE_ADDRESS, image_len};
use crate::seccomp::AUDIT_ARCH_NATIVE;
#[cfg(target_arch = "x86_64")]
use crate::seccomp::{
    ARCH_SET_FS, AUDIT_ARCH_I386, I386_EXECVE, I386_EXECVEAT, I386_SET_THREAD_AREA, STUB_PASS, STUB_PASS_32,
    X32_EXECVE, X32_EXECVEAT,
};
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::surface::X32_BIT;
use elsewhen_vdso::surface::{
    ASK, Action, Reach, Row, Rule, TRAP_MARK, Test, WAIT_IS_OVER, X32_OWN, moved_clocks, rows,
};
#[cfg(target_arch = "x86_64")]
use elsewhen_vdso::surface32::{CANCELS, HANDLED, ROWS32, Row32};

#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// Offsets in `struct seccomp_data`.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_IP: u32 = 8;
const DATA_ARGS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ANNOUNCE: u32 = libc::SECCOMP_RET_USER_NOTIF;
const CATCH: u32 = libc::SECCOMP_RET_TRAP | TRAP_MARK as u32;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// A filter ready to be loaded.
#[derive(Clone, Debug)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Compiles the filter of a namespace.
    pub fn new(reach: Reach) -> Self {
        Self::compile(Some(reach), true)
    }

    /// Compiles the half that announces, which lets everything else through.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn announcing() -> Self {
        Self::compile(None, true)
    }

    /// Compiles the half that catches, for a process that has one that announces.
    pub(crate) fn catching(reach: Reach) -> Self {
        Self::compile(Some(reach), false)
    }

    fn compile(reach: Option<Reach>, announces: bool) -> Self {
        Self::compile_for(reach, announces, runs_x32())
    }

    /// As [`compile`](Self::compile), for a kernel that has the x32 interface or not.
    fn compile_for(reach: Option<Reach>, announces: bool, x32: bool) -> Self {
        let mut code = Assembler { announces, ..Assembler::default() };
        code.emit(LOAD, DATA_ARCH);
        let native = code.jump_if(JUMP_IF_EQUAL, AUDIT_ARCH_NATIVE);
        #[cfg(target_arch = "x86_64")]
        code.i386(reach);
        code.emit(RETURN, ALLOW);
        code.land(native);
        code.emit(LOAD, DATA_NR);
        #[cfg(target_arch = "x86_64")]
        code.x32(reach, x32);
        code.announce_if(&[libc::SYS_execve as u32, libc::SYS_execveat as u32]);
        let mut numbers: Vec<(u32, What)> = Vec::new();
        if announces {
            numbers.push((ASK.0, What::Ask));
        }
        if let Some(reach) = reach {
            let rows = rows().filter(|row| row.rules.iter().any(|rule| rule.need.holds(reach)));
            numbers.extend(rows.clone().map(|row| (row.number, What::Row(row))));
            if x32 {
                let own = |row: &'static Row| {
                    X32_OWN.iter().find(|(_, native)| *native == row.number).map(|own| (own.0, row))
                };
                numbers.extend(rows.filter_map(own).map(|(number, row)| (number, What::Row(row))));
            }
            numbers.push((WAIT_IS_OVER, What::WaitIsOver));
        }
        numbers.sort_by_key(|(number, _)| *number);
        code.select(&numbers, reach.unwrap_or(Reach::from_bits(0)));
        Self(code.instructions)
    }

    /// Its instructions.
    pub(crate) fn instructions(&self) -> &[libc::sock_filter] {
        &self.0
    }

    /// The program for the kernel, which lives as long as this value.
    pub(crate) fn program(&self) -> libc::sock_fprog {
        libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() }
    }

    /// How many instructions it has.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none; it always has some.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether this kernel has the x32 interface.
#[cfg(target_arch = "x86_64")]
fn runs_x32() -> bool {
    static RUNS: LazyLock<bool> = LazyLock::new(crate::probe::runs_x32_programs);
    *RUNS
}

/// There is none on arm64.
#[cfg(target_arch = "aarch64")]
const fn runs_x32() -> bool {
    false
}

/// What is done about a system call.
#[derive(Clone, Copy)]
enum What {
    /// What its row says.
    Row(&'static Row),
    /// What its row says, of the 32-bit interface.
    #[cfg(target_arch = "x86_64")]
    Row32(&'static Row32),
    /// Announced where it sets up thread-local storage, or is a word to the supervisor.
    Ask,
    /// The same of the 32-bit interface: announced, but for the stub's.
    #[cfg(target_arch = "x86_64")]
    SetThreadArea,
    /// Caught, whoever makes it.
    #[cfg(target_arch = "x86_64")]
    Always,
    /// Caught where the gate makes it.
    WaitIsOver,
}

/// Instructions as the kernel reads them.
pub(crate) fn bytes(instructions: &[libc::sock_filter]) -> Vec<u8> {
    let bytes = |instruction: &libc::sock_filter| {
        let libc::sock_filter { code, jt, jf, k } = *instruction;
        let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
        [c0, c1, jt, jf, k0, k1, k2, k3]
    };
    instructions.iter().flat_map(bytes).collect()
}

/// Instructions, and jumps whose targets come later.
#[derive(Default)]
struct Assembler {
    instructions: Vec<libc::sock_filter>,
    /// Whether executions are announced.
    announces: bool,
}

/// A jump that has not landed: the index of its instruction.
#[must_use]
struct Pending(usize);

impl Assembler {
    fn emit(&mut self, code: u16, k: u32) {
        self.instructions.push(libc::sock_filter { code, jt: 0, jf: 0, k });
    }

    /// Jumps where the comparison holds, however far.
    fn jump_if(&mut self, code: u16, k: u32) -> Pending {
        self.instructions.push(libc::sock_filter { code, jt: 0, jf: 1, k });
        self.jump()
    }

    /// Jumps where the comparison does not hold, however far.
    fn jump_unless(&mut self, code: u16, k: u32) -> Pending {
        self.instructions.push(libc::sock_filter { code, jt: 1, jf: 0, k });
        self.jump()
    }

    fn jump(&mut self) -> Pending {
        self.emit(JUMP, 0);
        Pending(self.instructions.len() - 1)
    }

    /// Lets a jump end at the next instruction.
    fn land(&mut self, pending: Pending) {
        self.instructions[pending.0].k = (self.instructions.len() - pending.0 - 1) as u32;
    }

    fn land_all(&mut self, pending: Vec<Pending>) {
        pending.into_iter().for_each(|pending| self.land(pending));
    }

    /// Announces a call of one of these numbers.
    fn announce_if(&mut self, numbers: &[u32]) {
        for number in if self.announces { numbers } else { &[] } {
            self.instructions.push(libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: *number });
            self.emit(RETURN, ANNOUNCE);
        }
    }

    /// The 32-bit interface.
    #[cfg(target_arch = "x86_64")]
    fn i386(&mut self, reach: Option<Reach>) {
        let other = self.jump_unless(JUMP_IF_EQUAL, AUDIT_ARCH_I386);
        self.emit(LOAD, DATA_NR);
        self.announce_if(&[I386_EXECVE, I386_EXECVEAT]);
        let mut numbers: Vec<(u32, What)> = Vec::new();
        if self.announces {
            numbers.push((I386_SET_THREAD_AREA, What::SetThreadArea));
        }
        if let Some(reach) = reach {
            let rows = ROWS32.iter().filter(|row| row.rules().iter().any(|rule| rule.need.holds(reach)));
            numbers.extend(rows.map(|row| (row.number, What::Row32(row))));
            numbers.extend([WAIT_IS_OVER, CANCELS, HANDLED].map(|number| (number, What::Always)));
        }
        numbers.sort_by_key(|(number, _)| *number);
        self.select(&numbers, reach.unwrap_or(Reach::LEAST));
        self.land(other);
    }

    /// The calls of the x32 interface: taken for native ones, but for those that have numbers of their own, which no native
    /// call has. Most kernels do not have it; there the calls fail as they do without a filter.
    #[cfg(target_arch = "x86_64")]
    fn x32(&mut self, reach: Option<Reach>, exists: bool) {
        if exists {
            self.emit(AND, !X32_BIT);
            self.announce_if(&[X32_EXECVE, X32_EXECVEAT]);
            return;
        }
        let known = self.jump_unless(JUMP_IF_NOT_BELOW, X32_BIT);
        self.emit(RETURN, if reach.is_some() { REFUSE } else { ALLOW });
        self.land(known);
    }

    /// Finds the number by halving, and ends every way through.
    fn select(&mut self, numbers: &[(u32, What)], reach: Reach) {
        if numbers.is_empty() {
            self.emit(RETURN, ALLOW);
            return;
        }
        if let [(number, what)] = *numbers {
            let other = self.jump_unless(JUMP_IF_EQUAL, number);
            match what {
                What::Row(row) => self.rules(row.rules, row.action == Action::Refuse, reach),
                #[cfg(target_arch = "x86_64")]
                What::Row32(row) => self.rules(row.rules(), row.is_refused(), reach),
                What::Ask => self.ask(),
                #[cfg(target_arch = "x86_64")]
                What::SetThreadArea => self.set_thread_area(),
                #[cfg(target_arch = "x86_64")]
                What::Always | What::WaitIsOver => self.emit(RETURN, CATCH),
                #[cfg(target_arch = "aarch64")]
                What::WaitIsOver => self.wait_is_over(),
            }
            self.land(other);
            self.emit(RETURN, ALLOW);
            return;
        }
        let (low, high) = numbers.split_at(numbers.len() / 2);
        let upper = self.jump_if(JUMP_IF_NOT_BELOW, high[0].0);
        self.select(low, reach);
        self.land(upper);
        self.select(high, reach);
    }

    /// Catches a call where one of the rules for its number holds, or refuses it.
    fn rules(&mut self, rules: &[Rule], refuses: bool, reach: Reach) {
        for rule in rules.iter().filter(|rule| rule.need.holds(reach)) {
            let mut misses = Vec::new();
            for test in rule.tests {
                self.test(*test, reach, &mut misses);
            }
            self.catch(refuses);
            self.land_all(misses);
            if rule.tests.is_empty() {
                return;
            }
        }
        self.emit(RETURN, ALLOW);
    }

    fn test(&mut self, test: Test, reach: Reach, misses: &mut Vec<Pending>) {
        let low = |arg: u8| DATA_ARGS + 8 * u32::from(arg);
        match test {
            Test::Bits(arg, mask, value) => {
                self.emit(LOAD, low(arg));
                if mask != u32::MAX {
                    self.emit(AND, mask);
                }
                misses.push(self.jump_unless(JUMP_IF_EQUAL, value));
            }
            Test::Given(arg) => {
                self.emit(LOAD, low(arg));
                let given = self.jump_unless(JUMP_IF_EQUAL, 0);
                self.emit(LOAD, low(arg) + 4);
                misses.push(self.jump_if(JUMP_IF_EQUAL, 0));
                self.land(given);
            }
            Test::Positive(arg) => {
                self.emit(LOAD, low(arg));
                misses.push(self.jump_if(JUMP_IF_NOT_BELOW, 1 << 31));
                misses.push(self.jump_if(JUMP_IF_EQUAL, 0));
            }
            Test::Moved(arg) => {
                self.emit(LOAD, low(arg));
                let found: Vec<Pending> =
                    moved_clocks(reach).map(|clock| self.jump_if(JUMP_IF_EQUAL, clock as u32)).collect();
                misses.push(self.jump());
                self.land_all(found);
            }
        }
    }

    /// Catches the call unless the image makes it. What is refused is refused to everyone.
    fn catch(&mut self, refuses: bool) {
        if refuses {
            self.emit(RETURN, REFUSE);
            return;
        }
        self.emit(LOAD, DATA_IP + 4);
        let outside_high = self.jump_unless(JUMP_IF_EQUAL, (IMAGE_ADDRESS >> 32) as u32);
        self.emit(LOAD, DATA_IP);
        let above = self.jump_if(JUMP_IF_NOT_BELOW, (IMAGE_ADDRESS + image_len()) as u32);
        let inside = self.jump_if(JUMP_IF_NOT_BELOW, IMAGE_ADDRESS as u32);
        self.land(outside_high);
        self.land(above);
        self.emit(RETURN, CATCH);
        self.land(inside);
        self.emit(RETURN, ALLOW);
    }

    /// Catches the call with which handlers return, where the gate makes it.
    #[cfg(target_arch = "aarch64")]
    fn wait_is_over(&mut self) {
        const OVER: u64 = IMAGE_ADDRESS + elsewhen_vdso::image::HOOK_GATE_OVER;
        self.emit(LOAD, DATA_IP);
        let low = self.jump_unless(JUMP_IF_EQUAL, OVER as u32);
        self.emit(LOAD, DATA_IP + 4);
        let high = self.jump_unless(JUMP_IF_EQUAL, (OVER >> 32) as u32);
        self.emit(RETURN, CATCH);
        self.land(low);
        self.land(high);
        self.emit(RETURN, ALLOW);
    }

    /// Announces the call by which members speak to their supervisor.
    #[cfg(target_arch = "aarch64")]
    fn ask(&mut self) {
        self.emit(RETURN, ANNOUNCE);
    }

    /// Announces `arch_prctl(ARCH_SET_FS)`, but for the stub's.
    #[cfg(target_arch = "x86_64")]
    fn ask(&mut self) {
        self.emit(LOAD, DATA_ARGS);
        let other = self.jump_unless(JUMP_IF_EQUAL, ARCH_SET_FS as u32);
        self.emit(LOAD, DATA_ARGS + 16);
        let low = self.jump_unless(JUMP_IF_EQUAL, STUB_PASS as u32);
        self.emit(LOAD, DATA_ARGS + 20);
        let high = self.jump_unless(JUMP_IF_EQUAL, (STUB_PASS >> 32) as u32);
        self.emit(RETURN, ALLOW);
        self.land(low);
        self.land(high);
        self.emit(RETURN, ANNOUNCE);
        self.land(other);
        self.emit(RETURN, ALLOW);
    }

    /// Announces `set_thread_area`, but for the stub's.
    #[cfg(target_arch = "x86_64")]
    fn set_thread_area(&mut self) {
        self.emit(LOAD, DATA_ARGS + 8);
        let other = self.jump_unless(JUMP_IF_EQUAL, STUB_PASS_32);
        self.emit(RETURN, ALLOW);
        self.land(other);
        self.emit(RETURN, ANNOUNCE);
    }
}

// The kernel compares the two words of the instruction pointer apart.
const _: () = assert!(IMAGE_ADDRESS >> 32 == (IMAGE_ADDRESS + image_len()) >> 32);

#[cfg(test)]
mod tests {
    use super::*;
    use elsewhen_vdso::surface::catches;
    use std::collections::BTreeSet;

    /// `struct seccomp_data`.
    #[derive(Clone, Copy, Debug)]
    struct Data {
        nr: u32,
        arch: u32,
        ip: u64,
        args: [u64; 6],
    }

    impl Data {
        fn word(&self, offset: u32) -> u32 {
            let half = |value: u64| (value >> (offset % 8 * 8)) as u32;
            match offset {
                DATA_NR => self.nr,
                DATA_ARCH => self.arch,
                DATA_IP | 12 => half(self.ip),
                _ => half(self.args[(offset as usize - 16) / 8]),
            }
        }
    }

    /// Runs a filter as the kernel does, and says which words it looked at.
    fn run(filter: &Filter, data: &Data) -> (u32, BTreeSet<u32>) {
        let (mut accumulator, mut at, mut seen) = (0, 0, BTreeSet::new());
        loop {
            let libc::sock_filter { code, jt, jf, k } = filter.0[at];
            at += 1;
            match code {
                LOAD => {
                    seen.insert(k);
                    accumulator = data.word(k);
                }
                AND => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += usize::from(if accumulator == k { jt } else { jf }),
                JUMP_IF_NOT_BELOW => at += usize::from(if accumulator >= k { jt } else { jf }),
                RETURN => return (k, seen),
                _ => panic!("unexpected instruction {code:#x}"),
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    const ANNOUNCED_32: [u32; 3] = [I386_EXECVE, I386_SET_THREAD_AREA, I386_EXECVEAT];

    fn reaches() -> impl Iterator<Item = Reach> {
        [0, 1, 2, 4, 7, 16, 23].into_iter().map(Reach::from_bits)
    }

    fn verdict(filter: &Filter, arch: u32, nr: u32, ip: u64, args: [u64; 6]) -> u32 {
        run(filter, &Data { nr, arch, ip, args }).0
    }

    /// Values that some test of some row tells apart.
    fn values(row: &Row, arg: u8) -> Vec<u64> {
        let mut values = vec![0, 1, 1 << 32, u64::MAX, 0x8000_0000, 0xffff_ffff_0000_0001];
        for test in row.rules.iter().flat_map(|rule| rule.tests) {
            match *test {
                Test::Bits(at, mask, value) if at == arg => {
                    values.extend([value, value | !mask, value ^ 1].map(u64::from));
                    values.push(u64::from(value) | 7 << 40);
                }
                Test::Moved(at) if at == arg => values.extend(0..18),
                _ => {}
            }
        }
        values.sort_unstable();
        values.dedup();
        values
    }

    #[test]
    fn every_row_is_caught_exactly_where_its_rules_say_and_never_in_the_image() {
        const OUTSIDE: [u64; 4] = [0x40_1000, IMAGE_ADDRESS - 1, IMAGE_ADDRESS + image_len(), 1 << 40 | IMAGE_ADDRESS];
        for reach in reaches() {
            let filter = Filter::new(reach);
            for row in rows() {
                // Every pair of arguments takes every pair of values, the rest being zero or one.
                let mut cases = BTreeSet::new();
                for (first, second) in (0..6).flat_map(|first| (first..6).map(move |second| (first, second))) {
                    for (a, b) in values(row, first)
                        .into_iter()
                        .flat_map(|a| values(row, second).into_iter().map(move |b| (a, b)))
                    {
                        for rest in [0, 1, 9, 0x109] {
                            let mut args = [rest; 6];
                            args[usize::from(second)] = b;
                            args[usize::from(first)] = a;
                            cases.insert(args);
                        }
                    }
                }
                for args in cases {
                    let expected = match (catches(row.number, reach, |arg| args[usize::from(arg)]), row.action) {
                        (false, _) => ALLOW,
                        (true, Action::Refuse) => REFUSE,
                        (true, _) => CATCH,
                    };
                    for ip in OUTSIDE {
                        let found = verdict(&filter, AUDIT_ARCH_NATIVE, row.number, ip, args);
                        assert_eq!(found, expected, "{} {args:x?} from {ip:#x} for {reach:?}", row.name);
                    }
                    if row.action != Action::Refuse {
                        for ip in [IMAGE_ADDRESS, IMAGE_ADDRESS + image_len() - 1] {
                            assert_eq!(
                                verdict(&filter, AUDIT_ARCH_NATIVE, row.number, ip, args),
                                ALLOW,
                                "{}",
                                row.name
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn everything_else_is_decided_by_its_number() {
        for reach in reaches() {
            let filter = Filter::new(reach);
            for nr in 0..1024 {
                let caught = rows().any(|row| row.number == nr && row.rules.iter().any(|rule| rule.need.holds(reach)));
                let (_, seen) = run(&filter, &Data { nr, arch: AUDIT_ARCH_NATIVE, ip: 0, args: [0; 6] });
                let constant = seen.is_subset(&BTreeSet::from([DATA_NR, DATA_ARCH]));
                assert!(constant || caught || nr == ASK.0 || nr == WAIT_IS_OVER, "call {nr} looks at {seen:?}");
            }
            assert!(filter.len() < 4096, "the kernel takes no more");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_of_the_x32_interface_are_as_native_ones_where_it_exists() {
        for reach in reaches() {
            let (with, without) =
                (Filter::compile_for(Some(reach), true, true), Filter::compile_for(Some(reach), true, false));
            let cases = rows().flat_map(|row| {
                (0..6).flat_map(move |arg| {
                    let each = move |value| {
                        [0, 1, 9].map(|rest| std::array::from_fn(|at| if at == arg { value } else { rest }))
                    };
                    values(row, arg as u8).into_iter().flat_map(each).map(move |args| (row, args))
                })
            });
            for (row, args) in cases {
                let own = X32_OWN.iter().find(|(_, native)| *native == row.number).map_or(row.number, |own| own.0);
                for ip in [0x40_0000, IMAGE_ADDRESS + 16] {
                    let native = verdict(&with, AUDIT_ARCH_NATIVE, row.number, ip, args);
                    assert_eq!(verdict(&with, AUDIT_ARCH_NATIVE, own | X32_BIT, ip, args), native, "{}", row.name);
                    assert_eq!(verdict(&without, AUDIT_ARCH_NATIVE, own | X32_BIT, ip, args), REFUSE, "{}", row.name);
                    assert_eq!(verdict(&without, AUDIT_ARCH_NATIVE, row.number, ip, args), native, "{}", row.name);
                }
            }
            // Others are the kernel's.
            assert_eq!(verdict(&with, AUDIT_ARCH_NATIVE, 39 | X32_BIT, 0, [0; 6]), ALLOW);
            assert_eq!(verdict(&with, AUDIT_ARCH_NATIVE, 59 | X32_BIT, 0, [0; 6]), ANNOUNCE);
            assert_eq!(verdict(&with, AUDIT_ARCH_NATIVE, X32_EXECVE | X32_BIT, 0, [0; 6]), ANNOUNCE);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn exactly_program_starts_are_announced() {
        for reach in reaches() {
            let filter = Filter::new(reach);
            let announced = |arch, nr| verdict(&filter, arch, nr, 0, [0; 6]) == ANNOUNCE;
            let x86_64: Vec<u32> =
                (0..1024).chain(X32_BIT..X32_BIT + 1024).filter(|nr| announced(AUDIT_ARCH_NATIVE, *nr)).collect();
            let mut expected = vec![59, 322];
            if runs_x32() {
                let own = [X32_EXECVE, X32_EXECVEAT];
                expected.extend(own);
                expected.extend([59, 322].into_iter().chain(own).map(|nr| nr | X32_BIT));
            }
            assert_eq!(x86_64, expected);
            let i386: Vec<u32> = (0..1024).filter(|nr| announced(AUDIT_ARCH_I386, *nr)).collect();
            assert_eq!(i386, ANNOUNCED_32);
            assert!((0..1024).all(|nr| !announced(0xc000_00b7, nr)), "other architectures are not our business");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn calls_of_the_32_bit_interface_are_caught_where_their_equals_are() {
        for reach in reaches() {
            let filter = Filter::new(reach);
            let native = |number, args: [u64; 6]| verdict(&filter, AUDIT_ARCH_NATIVE, number, 0, args);
            for number in (0..1024).filter(|number| !ANNOUNCED_32.contains(number)) {
                let row = ROWS32.iter().find(|row| row.number == number);
                for args in
                    [[0; 6], [1; 6], [0, 9, 1, 1, 1, 1], [0, 0x109, 0, 1, 1, 0], [14; 6], [4; 6], [1, 20, 20, 1, 1, 1]]
                {
                    let found = |ip| verdict(&filter, AUDIT_ARCH_I386, number, ip, args);
                    let Some(row) = row else {
                        assert_eq!(found(0), ALLOW, "call {number}");
                        continue;
                    };
                    if row.is_refused() {
                        assert_eq!(found(0), found(IMAGE_ADDRESS));
                        assert!([ALLOW, REFUSE].contains(&found(0)), "{}", row.name);
                    } else {
                        assert_eq!(found(IMAGE_ADDRESS), ALLOW, "{}", row.name);
                        if std::ptr::eq(row.rules(), row.row().rules) {
                            assert_eq!(found(0), native(row.native, args), "{} with {args:?} for {reach:?}", row.name);
                        }
                    }
                }
            }
            for number in [WAIT_IS_OVER, CANCELS, HANDLED] {
                for ip in [0, IMAGE_ADDRESS] {
                    assert_eq!(verdict(&filter, AUDIT_ARCH_I386, number, ip, [0; 6]), CATCH);
                }
            }
        }
        assert!((0..1024).all(|number| {
            let found = verdict(&Filter::announcing(), AUDIT_ARCH_I386, number, 0, [0; 6]);
            found == if ANNOUNCED_32.contains(&number) { ANNOUNCE } else { ALLOW }
        }));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_stubs_own_call_passes_and_nothing_that_resembles_it() {
        let filter = Filter::new(Reach::ALL);
        let set_fs = |arg2| verdict(&filter, AUDIT_ARCH_NATIVE, 158, 0, [0x1002, 0, arg2, 0, 0, 0]);
        assert_eq!(set_fs(STUB_PASS), ALLOW);
        for near in [0, STUB_PASS as u32 as u64, STUB_PASS >> 32 << 32, STUB_PASS + 1, !STUB_PASS] {
            assert_eq!(set_fs(near), ANNOUNCE);
        }
        assert_eq!(verdict(&filter, AUDIT_ARCH_NATIVE, 59, 0, [0x1002, 0, STUB_PASS, 0, 0, 0]), ANNOUNCE);
        let set_thread_area = |arg1| verdict(&filter, AUDIT_ARCH_I386, 243, 0, [0x1000, arg1, 0, 0, 0, 0]);
        assert_eq!(set_thread_area(STUB_PASS_32.into()), ALLOW);
        for near in [0, 1, STUB_PASS_32 + 1, !STUB_PASS_32] {
            assert_eq!(set_thread_area(near.into()), ANNOUNCE);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn only_setting_the_fs_base_is_announced_of_arch_prctl() {
        let filter = Filter::new(Reach::LEAST);
        for code in 0..0x6000 {
            let expected = if code == 0x1002 { ANNOUNCE } else { ALLOW };
            let found = verdict(&filter, AUDIT_ARCH_NATIVE, 158, 0, [code, 0, 0, 0, 0, 0]);
            assert_eq!(found, expected, "arch_prctl({code:#x})");
        }
    }

    #[cfg(target_arch = "aarch64")]
    #[test]
    fn what_is_said_to_the_supervisor_is_announced_and_a_wait_that_is_over_is_caught() {
        const OVER: u64 = IMAGE_ADDRESS + elsewhen_vdso::image::HOOK_GATE_OVER;
        for reach in reaches() {
            let filter = Filter::new(reach);
            let announced = |nr: &u32| verdict(&filter, AUDIT_ARCH_NATIVE, *nr, 0, [0; 6]) == ANNOUNCE;
            let found: Vec<u32> = (0..0x4_0000).filter(announced).collect();
            assert_eq!(found, [libc::SYS_execve as u32, libc::SYS_execveat as u32, ASK.0]);
            let returns = |ip| verdict(&filter, AUDIT_ARCH_NATIVE, WAIT_IS_OVER, ip, [0; 6]);
            assert_eq!(returns(OVER), CATCH);
            for ip in [0, OVER - 4, OVER + 4, OVER as u32 as u64, 1 << 40 | OVER] {
                assert_eq!(returns(ip), ALLOW);
            }
        }
    }
}
