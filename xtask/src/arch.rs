//! Architectures of machines, and what differs between them.

use clap::ValueEnum;
use elsewhen_image::elf::{EM_AARCH64, EM_X86_64};

/// Architectures of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// x86-64
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm
    Arm64,
}

/// What a machine of an architecture is made of.
#[derive(Debug)]
pub(crate) struct Platform {
    /// The emulator.
    pub(crate) qemu: &'static str,
    /// The package that has it.
    pub(crate) qemu_package: &'static str,
    /// Which machine it is to be.
    pub(crate) machine: &'static [&'static str],
    /// The kernel's own arguments besides those of every machine.
    pub(crate) kernel_arguments: &'static str,
    /// Debian's name of the architecture.
    pub(crate) debian: &'static str,
    /// `e_machine` of its programs.
    pub(crate) elf_machine: u16,
    /// What is built for another architecture than this machine's.
    pub(crate) cross: Option<Cross>,
}

/// How programs are built for another architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cross {
    /// The compiler's `--target`.
    pub(crate) target: &'static str,
    /// The variable by which cargo is told the linker.
    pub(crate) variable: &'static str,
    /// The linker.
    pub(crate) linker: &'static str,
    /// The packages that have it.
    pub(crate) linker_packages: &'static str,
}

impl Arch {
    /// What differs.
    pub(crate) const fn platform(self) -> Platform {
        match self {
            // The first serial line, the clock source that the vDSO reads, no wait for random numbers, and programs of the x32
            // interface, which Debian's kernels leave out otherwise.
            Self::X86_64 => Platform {
                qemu: "qemu-system-x86_64",
                qemu_package: "qemu-system-x86",
                machine: &["-cpu", "max"],
                kernel_arguments: "console=ttyS0 tsc=reliable random.trust_cpu=on syscall.x32=y",
                debian: "amd64",
                elf_machine: EM_X86_64,
                cross: None,
            },
            // Signing of pointers by an algorithm that is quick to emulate.
            Self::Arm64 => Platform {
                qemu: "qemu-system-aarch64",
                qemu_package: "qemu-system-arm",
                machine: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
                kernel_arguments: "console=ttyAMA0",
                debian: "arm64",
                elf_machine: EM_AARCH64,
                cross: Some(Cross {
                    target: "aarch64-unknown-linux-gnu",
                    variable: "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                    linker: "aarch64-linux-gnu-gcc",
                    linker_packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
                }),
            },
        }
    }
}
