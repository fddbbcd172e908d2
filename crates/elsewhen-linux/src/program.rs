//! What a member is about to execute, and how a process of it can be entered.
//!
//! A program is examined when its execution is announced, from its file: the answer decides between the way in
//! that costs least, the one that works for anything, and a refusal while the caller can still be told.

use crate::page::{IMAGE_ADDRESS, STATE_ADDRESS, image_len};
use crate::remote::Tid;
use elsewhen_vdso::elf::{self, Elf, PT_INTERP, PT_LOAD, PT_TLS};
use elsewhen_vdso::page::PAGE_SIZE;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How a program can be entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It sets up thread-local storage at its start, by the call that the filter announces.
    AtTlsSetup,
    /// It may never make that call: it is entered in a short trace of its start.
    Traced,
    /// The kernel will refuse it, or answer for it, without starting a program.
    Kernel,
    /// It could not be entered, so it must not start; the reason is a clause for people.
    Refused(String),
}

/// What is known of a program before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The file that the kernel loads: for a script, its interpreter.
    pub path: PathBuf,
    /// How it can be entered.
    pub entry: Entry,
    /// The kind of program, for people: `dynamic`, `static`, `script of …`.
    pub kind: String,
}

/// 32-bit Arm.
const EM_ARM: u16 = 40;
/// Another name of i386 (`elf_check_arch_ia32`).
const EM_486: u16 = 6;

/// How deep the kernel follows scripts that are interpreted by scripts (`BINPRM_MAX_RECURSION`).
const SCRIPT_DEPTH: usize = 5;

/// Where the path of an execution is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub Tid);

/// The directory argument of `execveat(2)` that means the working directory.
pub const AT_FDCWD: i32 = libc::AT_FDCWD;

impl Caller {
    /// Examines the program at `path`, as the caller sees it.
    pub fn examine(self, directory: i32, path: &[u8], empty_path: bool) -> Program {
        let shown = PathBuf::from(OsStr::from_bytes(path));
        if path.is_empty() {
            if !empty_path {
                return Program::left_to_kernel(shown);
            }
            let link = format!("/proc/{}/fd/{directory}", self.0.0);
            let target = std::fs::read_link(&link).unwrap_or(shown);
            return examine_file(self, open_path(rustix::fs::CWD, Path::new(&link)), target);
        }
        examine_file(self, self.open(directory, &shown), shown)
    }

    /// Opens a path as the caller would: its root, its working directory, its `/proc/self`.
    fn open(self, directory: i32, path: &Path) -> Result<OwnedFd, Errno> {
        let tid = self.0.0;
        if let Some(own) = self.own_proc_path(path) {
            return open_path(rustix::fs::CWD, &own);
        }
        let base = match directory {
            _ if path.is_absolute() => None,
            AT_FDCWD => Some(PathBuf::from(format!("/proc/{tid}/cwd"))),
            fd => Some(PathBuf::from(format!("/proc/{tid}/fd/{fd}"))),
        };
        if self.shares_our_root() {
            return match base {
                None => open_path(rustix::fs::CWD, path),
                Some(base) => open_path(open_path(rustix::fs::CWD, &base)?, path),
            };
        }
        let root_link = PathBuf::from(format!("/proc/{tid}/root"));
        let root = open_path(rustix::fs::CWD, &root_link)?;
        let mut within = PathBuf::new();
        if let Some(base) = base {
            let base = read_link(&base)?;
            let root_path = read_link(&root_link)?;
            within.push(base.strip_prefix(&root_path).unwrap_or(&base));
        }
        within.push(path);
        openat2(root, &within, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    /// `/proc/self/…`, `/proc/thread-self/…` and `/dev/fd/…` mean another process when looked up from here.
    fn own_proc_path(self, path: &Path) -> Option<PathBuf> {
        let own = PathBuf::from(format!("/proc/{}", self.0.0));
        for prefix in ["/proc/self", "/proc/thread-self"] {
            if let Ok(rest) = path.strip_prefix(prefix) {
                return Some(own.join(rest));
            }
        }
        Some(own.join("fd").join(path.strip_prefix("/dev/fd").ok()?))
    }

    fn shares_our_root(self) -> bool {
        static OURS: OnceLock<[Option<(u64, u64)>; 2]> = OnceLock::new();
        let ours = OURS.get_or_init(|| [identity("/"), identity("/proc/self/ns/mnt")]);
        let theirs = |index: usize, name: &str| {
            let found = identity(&format!("/proc/{}/{name}", self.0.0));
            found.is_some() && found == ours[index]
        };
        theirs(0, "root") && theirs(1, "ns/mnt")
    }
}

/// What tells two files apart.
fn identity(path: &str) -> Option<(u64, u64)> {
    statat(rustix::fs::CWD, path, AtFlags::empty()).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

fn open_path(directory: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    openat(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn read_link(path: &Path) -> Result<PathBuf, Errno> {
    let target = readlinkat(rustix::fs::CWD, path, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

impl Program {
    fn left_to_kernel(path: PathBuf) -> Self {
        Self { path, entry: Entry::Kernel, kind: "not a program".into() }
    }

    fn refused(path: PathBuf, kind: &str, reason: impl Into<String>) -> Self {
        Self { path, entry: Entry::Refused(reason.into()), kind: kind.into() }
    }
}

/// Follows scripts to the program that the kernel loads, and examines that.
fn examine_file(caller: Caller, file: Result<OwnedFd, Errno>, path: PathBuf) -> Program {
    let (mut file, mut path) = (file, path);
    let mut scripts = String::new();
    for _ in 0..=SCRIPT_DEPTH {
        let opened = match file {
            Ok(opened) => opened,
            Err(Errno::ACCESS | Errno::LOOP | Errno::PERM | Errno::STALE | Errno::IO) => {
                // What the kernel finds there may not be what we could look up.
                return Program { path, entry: Entry::Traced, kind: "a program that cannot be looked up".into() };
            }
            Err(_) => return Program::left_to_kernel(path),
        };
        match examine_opened(&opened, &path) {
            Examined::Program(program) => {
                return Program { kind: format!("{scripts}{}", program.kind), ..program };
            }
            Examined::Script(interpreter) => {
                scripts.push_str("a script of ");
                file = caller.open(AT_FDCWD, &interpreter);
                path = interpreter;
            }
        }
    }
    Program::left_to_kernel(path)
}

enum Examined {
    Program(Program),
    Script(PathBuf),
}

fn examine_opened(file: &OwnedFd, path: &Path) -> Examined {
    let kernel = || Examined::Program(Program::left_to_kernel(path.to_owned()));
    let Ok(stat) = fstat(file) else { return kernel() };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return kernel();
    }
    // Opening through /proc keeps to the very file that was looked up.
    let readable = openat(
        rustix::fs::CWD,
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)),
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY,
        Mode::empty(),
    );
    let readable = match readable {
        Ok(readable) => File::from(readable),
        Err(Errno::ACCESS | Errno::PERM) => {
            let reason = "it may be executed but not read, so the kernel would not let its process be entered";
            return Examined::Program(Program::refused(path.to_owned(), "an unreadable program", reason));
        }
        Err(_) => return kernel(),
    };
    let mut start = [0; PAGE_SIZE];
    let length = readable.read_at(&mut start, 0).unwrap_or(0);
    let start = &start[..length];
    if let Some(line) = start.strip_prefix(b"#!") {
        return interpreter_of(line).map_or_else(kernel, Examined::Script);
    }
    Examined::Program(examine_elf(&readable, start, path))
}

/// The interpreter that a `#!` line names, as `fs/binfmt_script.c` reads it.
fn interpreter_of(line: &[u8]) -> Option<PathBuf> {
    let line = line.get(..line.len().min(254))?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let name = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | 0)).next()?;
    (!name.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(name)))
}

fn examine_elf(file: &File, start: &[u8], path: &Path) -> Program {
    let Some(header) = elf::file_header(start) else {
        // Neither ELF nor a script: ENOEXEC, or an interpreter registered with binfmt_misc, which is entered as
        // the program that it is.
        return Program::left_to_kernel(path.to_owned());
    };
    if header.machine == EM_ARM && cfg!(target_arch = "aarch64") {
        let reason = "it is a 32-bit program, and this elsewhen has an image for 64-bit ones only; build it for arm64";
        return Program::refused(path.to_owned(), "32-bit Arm", reason);
    }
    if header.class == elf::CLASS_32 && header.machine == EM_486 && cfg!(target_arch = "x86_64") {
        return Program { path: path.to_owned(), entry: Entry::Traced, kind: "32-bit".into() };
    }
    let program = match header.machine {
        _ if header.class == elf::CLASS_64 => Elf::native(start).map(|program| (program, "")),
        elf::EM_386 if cfg!(target_arch = "x86_64") => Elf::i386(start).map(|program| (program, "32-bit ")),
        // Where the kernel has no such programs, it says so.
        elf::EM_X86_64 if cfg!(target_arch = "x86_64") => Elf::x32(start).map(|program| (program, "x32 ")),
        _ => None,
    };
    let Some((program, width)) = program else { return Program::left_to_kernel(path.to_owned()) };
    if header.kind == elf::ET_EXEC && covers_our_place(program) {
        let reason =
            format!("it occupies the addresses {STATE_ADDRESS:#x} and up, where the state, the page and the image go");
        return Program::refused(path.to_owned(), "fixed-address", reason);
    }
    let interpreter = program.segments().find(|segment| segment.kind == PT_INTERP);
    let tls = program.segments().any(|segment| segment.kind == PT_TLS);
    let table_is_read = program.segment_table().is_some_and(|(at, len)| at.saturating_add(len) <= start.len() as u64);
    let (kind, entry) = match interpreter {
        _ if !table_is_read => ("with program headers out of reach", Entry::Traced),
        Some(segment) => {
            let mut elsewhere = vec![0; segment.file_size.min(4096) as usize];
            let name = program.slice(segment.offset, segment.file_size);
            // Nearly always within the first page.
            let (name, read) = match name {
                Some(name) => (name, true),
                None => {
                    let read = file.read_exact_at(&mut elsewhere, segment.offset).is_ok();
                    (&elsewhere[..], read)
                }
            };
            let name = Path::new(OsStr::from_bytes(name.strip_suffix(b"\0").unwrap_or(name)));
            if read && is_known_loader(name) { ("dynamic", Entry::AtTlsSetup) } else { ("dynamic", Entry::Traced) }
        }
        None if tls => ("static", Entry::AtTlsSetup),
        None => ("static, without thread-local storage", Entry::Traced),
    };
    // No call that programs make at their start lets its thread be sent elsewhere there.
    let entry = if cfg!(target_arch = "aarch64") { Entry::Traced } else { entry };
    Program { path: path.to_owned(), entry, kind: format!("{width}{kind}") }
}

/// Whether this is glibc's or musl's dynamic loader, which set up thread-local storage for every program.
fn is_known_loader(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    [&b"ld-linux"[..], b"ld-musl", b"ld-2.", b"ld.so"].iter().any(|prefix| name.starts_with(prefix))
}

fn covers_our_place(program: Elf<'_>) -> bool {
    let (start, end) = (STATE_ADDRESS, IMAGE_ADDRESS + image_len());
    program.segments().any(|segment| {
        segment.kind == PT_LOAD
            && segment.vaddr & !0xfff < end
            && segment.vaddr.saturating_add(segment.mem_size) > start
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examine(path: &str) -> Program {
        Caller(Tid(std::process::id())).examine(AT_FDCWD, path.as_bytes(), false)
    }

    #[test]
    fn a_shell_is_dynamic_and_a_missing_file_is_the_kernels() {
        let by_itself = if cfg!(target_arch = "x86_64") { Entry::AtTlsSetup } else { Entry::Traced };
        assert_eq!(examine("/bin/sh").entry, by_itself);
        assert_eq!(examine("/nonexistent/program").entry, Entry::Kernel);
        assert_eq!(examine("/etc/passwd").entry, Entry::Kernel);
        assert_eq!(examine("/").entry, Entry::Kernel);
        assert_eq!(examine("").entry, Entry::Kernel);
        assert_eq!(examine("/proc/self/exe").entry, by_itself);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn programs_of_other_widths_are_told_apart() {
        // An ELF file with one program header, of a size of its class.
        let examine = |class: u8, machine: u8, kind: u8, size: u32, vaddr: u32| {
            let mut file = vec![0; 52 + 32];
            file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1, 1]);
            file[16..20].copy_from_slice(&[2, 0, machine, 0]);
            file[28] = 52;
            file[42..46].copy_from_slice(&[32, 0, 1, 0]);
            file[52] = kind;
            file[60..64].copy_from_slice(&vaddr.to_le_bytes());
            file[72..76].copy_from_slice(&size.to_le_bytes());
            examine_elf(&File::open("/dev/null").unwrap(), &file, Path::new("/program"))
        };
        let loaded = examine(1, 3, PT_LOAD as u8, 0x1000, 0x804_8000);
        assert_eq!((loaded.entry, &*loaded.kind), (Entry::Traced, "32-bit static, without thread-local storage"));
        let with_tls = examine(1, 3, PT_TLS as u8, 4, 0x804_8000);
        assert_eq!((with_tls.entry, &*with_tls.kind), (Entry::AtTlsSetup, "32-bit static"));
        assert!(matches!(examine(1, 3, PT_LOAD as u8, 0x1000, IMAGE_ADDRESS as u32).entry, Entry::Refused(_)));
        let of_x32 = examine(1, 62, PT_TLS as u8, 4, 0x40_0000);
        assert_eq!((of_x32.entry, &*of_x32.kind), (Entry::AtTlsSetup, "x32 static"));
        assert_eq!(examine(1, 6, PT_LOAD as u8, 0, 0).entry, Entry::Traced);
        assert_eq!(examine(1, 40, PT_LOAD as u8, 0, 0).entry, Entry::Kernel);
    }

    #[test]
    fn interpreter_lines_are_read_as_the_kernel_reads_them() {
        let read = |line: &str| interpreter_of(line.as_bytes()).map(|path| path.display().to_string());
        assert_eq!(read("/bin/sh\necho"), Some("/bin/sh".into()));
        assert_eq!(read("  /usr/bin/env python3 -x\n"), Some("/usr/bin/env".into()));
        assert_eq!(read("\t/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(read("\n/bin/sh"), None);
        assert_eq!(read("   \n"), None);
    }
}
