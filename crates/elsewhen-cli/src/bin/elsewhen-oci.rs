//! The `elsewhen-oci` command, an OCI runtime: see the crate of that name.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    elsewhen_oci::run()
}
