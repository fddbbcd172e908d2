//! Packages of Debian for another architecture than the host's, by an apt that knows nothing of what is installed here.

use crate::tools;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// apt for one architecture.
pub(crate) struct Apt {
    /// Where it keeps what it knows; `None` where it is the host's own.
    state: Option<PathBuf>,
    architecture: &'static str,
}

impl Apt {
    /// The host's own apt.
    pub(crate) const fn of_host(architecture: &'static str) -> Self {
        Self { state: None, architecture }
    }

    /// An apt with the host's sources, which keeps all else in a folder. It learns what there is when it is made.
    pub(crate) fn new(folder: &Path, architecture: &'static str) -> Result<Self, String> {
        let apt = Self { state: Some(folder.to_owned()), architecture };
        let status = folder.join("status");
        if !status.is_file() {
            for name in ["lists/partial", "cache/archives/partial"] {
                fs::create_dir_all(folder.join(name))
                    .map_err(|error| format!("create {}: {error}", folder.display()))?;
            }
            tools::run(apt.command("apt-get")?.args(["update", "--quiet=2"]))?;
            fs::write(&status, "").map_err(|error| format!("create {}: {error}", status.display()))?;
        }
        Ok(apt)
    }

    /// Debian's name of the architecture.
    pub(crate) const fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// A program of apt's.
    pub(crate) fn command(&self, program: &str) -> Result<Command, String> {
        let mut command = tools::find(program, "apt")?;
        command.arg("--option=APT::Sandbox::User=root");
        if let Some(state) = &self.state {
            let state = state.display();
            command.args([
                format!("--option=APT::Architecture={}", self.architecture),
                format!("--option=APT::Architectures={}", self.architecture),
                format!("--option=Dir::State::lists={state}/lists"),
                format!("--option=Dir::State::status={state}/status"),
                format!("--option=Dir::Cache={state}/cache"),
                "--option=APT::Install-Recommends=0".to_owned(),
                "--option=Debug::NoLocking=1".to_owned(),
            ]);
        }
        Ok(command)
    }
}
