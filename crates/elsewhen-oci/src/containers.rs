//! The containers that have a time of their own: a folder for each, in `.containers` beside the namespaces of its user.
//!
//! In it are `record.json`, the agent's socket `agent`, and `log`. The agent makes the folder and removes it.

pub use crate::timens::KernelOffsets;
use elsewhen::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// How long a container's log becomes, about, in bytes.
const LOG_MAX: u64 = 64 << 10;

/// What is known of a container.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Container {
    /// The id that its engine gave it.
    pub id: String,
    /// The name that people call it by, where its engine lets that be known.
    pub name: Option<String>,
    /// The name of its namespace.
    pub namespace: String,
    /// The process that supervises it.
    pub agent: u32,
    /// What a time namespace of the kernel's does beside it.
    pub kernel: Option<KernelOffsets>,
}

impl Container {
    /// What its agent had to say, a line each, oldest first.
    pub fn log(&self) -> Vec<String> {
        let text = Folder::of(&self.id).and_then(|folder| fs::read_to_string(folder.path.join("log")).ok());
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// All containers of this user, in order of their ids.
///
/// # Errors
/// Where the folder that they are kept in cannot be used.
pub fn all() -> Result<Vec<Container>> {
    let folders = fs::read_dir(root()?).into_iter().flatten();
    let names = folders.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut all: Vec<Container> = names.filter_map(|name| Folder::of(&name)?.record()).collect();
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

/// A container by its id, by what only its id begins with, or by its name.
///
/// # Errors
/// Where there is none, or more than one.
pub fn find(text: &str) -> Result<Container> {
    let all = all()?;
    pick(&all, text).cloned()
}

fn pick<'a>(all: &'a [Container], text: &str) -> Result<&'a Container> {
    let is_named = |container: &&Container| container.name.as_deref() == Some(text);
    let is_begun = |container: &&Container| !text.is_empty() && container.id.starts_with(text);
    let is_exact = |container: &&Container| container.id == text;
    for found in [&is_exact as &dyn Fn(&&Container) -> bool, &is_named, &is_begun] {
        let mut found = all.iter().filter(|container| found(container));
        match (found.next(), found.next()) {
            (Some(container), None) => return Ok(container),
            (Some(_), Some(_)) => {
                return Err(Error::other(format!("more than one container is called {text:?}: give more of its id")));
            }
            _ => {}
        }
    }
    Err(Error::other(format!(
        "no container {text:?} has a time of its own (of this user, {}); see `elsewhen ls`",
        elsewhen_linux::process::user()
    )))
}

fn root() -> Result<PathBuf> {
    Ok(elsewhen::runtime_folder()?.join(".containers"))
}

/// The folder of a container.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// That of a container which has one.
    pub fn of(id: &str) -> Option<Self> {
        let path = Self::path_of(id).ok()?;
        path.is_dir().then_some(Self { path })
    }

    /// Makes it.
    ///
    /// # Errors
    /// Where that cannot be done, or the id is none.
    pub fn make(id: &str) -> Result<Self> {
        let path = Self::path_of(id)?;
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&path);
        made.map_err(|error| Error::other(format!("make {}: {error}", path.display())))?;
        Ok(Self { path })
    }

    fn path_of(id: &str) -> Result<PathBuf> {
        if id.is_empty() || id.starts_with('.') || id.contains('/') {
            return Err(Error::other(format!("{id:?} is no id of a container")));
        }
        Ok(root()?.join(id))
    }

    /// Keeps others from making or reviving the same container meanwhile.
    ///
    /// # Errors
    /// Where the folder has been removed.
    pub fn lock(&self) -> Result<File> {
        let failed = |error| Error::other(format!("lock {}: {error}", self.path.display()));
        let file = File::open(&self.path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    /// Whether a lock is of the folder that is there now.
    pub fn is_locked_by(&self, lock: &File) -> bool {
        let place = |metadata: std::io::Result<fs::Metadata>| metadata.map(|file| (file.dev(), file.ino())).ok();
        place(lock.metadata()) == place(fs::metadata(&self.path))
    }

    /// What is in its record; `None` where that is not written yet.
    pub fn record(&self) -> Option<Container> {
        serde_json::from_slice(&fs::read(self.path.join("record.json")).ok()?).ok()
    }

    /// Writes the record.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn set_record(&self, container: &Container) -> Result<()> {
        let failed = |error: &dyn std::fmt::Display| Error::other(format!("write to {}: {error}", self.path.display()));
        let text = serde_json::to_vec(container).map_err(|error| failed(&error))?;
        let new = self.path.join("record.json.new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, self.path.join("record.json")))
            .map_err(|error| failed(&error))
    }

    /// Adds a line to its log, as long as that is short: a container must not fill the folder by what it is refused.
    pub fn note(&self, line: &str) {
        let length = fs::metadata(self.path.join("log")).map_or(0, |log| log.len());
        if length > LOG_MAX {
            return;
        }
        let line = if length + line.len() as u64 > LOG_MAX { "no more is noted here" } else { line };
        // Where that is full or gone there is nowhere else to say so.
        let _ = append(&self.path.join("log"), line);
    }

    /// Begins to listen for launchers.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn listen(&self) -> Result<UnixListener> {
        let (folder, path) = self.socket()?;
        let _ = fs::remove_file(&path);
        let listening = UnixListener::bind(&path);
        drop(folder);
        listening.map_err(|error| Error::other(format!("listen in {}: {error}", self.path.display())))
    }

    /// Connects to the agent. `None` where there is none any more.
    pub fn connect(&self) -> Option<OwnedFd> {
        let (_folder, path) = self.socket().ok()?;
        UnixStream::connect(path).ok().map(OwnedFd::from)
    }

    /// The socket's path by way of the folder's descriptor: the path itself can be too long for an address.
    fn socket(&self) -> Result<(File, PathBuf)> {
        let failed = |error| Error::other(format!("open {}: {error}", self.path.display()));
        let folder = File::open(&self.path).map_err(failed)?;
        let path = format!("/proc/self/fd/{}/agent", folder.as_raw_fd()).into();
        Ok((folder, path))
    }

    /// Removes it.
    pub fn remove(self) {
        // Gone is what it is to be.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Adds a line, with the date, to a file that is made where it is missing.
///
/// # Errors
/// Where it cannot be written to.
pub fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    match file.write_all(format!("{:.3} {line}\n", elsewhen::Timestamp::now()).as_bytes()) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

/// Adds a message to a log in JSON, as container runtimes write it.
///
/// # Errors
/// Where it cannot be written to.
pub fn append_json(path: &Path, message: &str) -> std::io::Result<()> {
    let now = elsewhen::Timestamp::now().to_string();
    let line = serde_json::json!({ "level": "error", "msg": message, "time": now });
    File::options().append(true).create(true).open(path)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_by_what_means_it_alone() {
        let container = |id: &str, name: Option<&str>| Container {
            id: id.into(),
            name: name.map(str::to_owned),
            namespace: id.into(),
            agent: 1,
            kernel: None,
        };
        let all = [
            container("abc1", Some("web")),
            container("abc2", Some("abc1")),
            container("d", Some("two")),
            container("e", Some("two")),
        ];
        let found =
            |text: &str| pick(&all, text).map(|container| container.id.as_str()).map_err(|error| error.to_string());
        assert_eq!(found("web"), Ok("abc1"));
        assert_eq!(found("abc1"), Ok("abc1"), "the id goes before names");
        assert_eq!(found("abc2"), Ok("abc2"));
        for several in ["abc", "two"] {
            assert!(found(several).is_err_and(|message| message.starts_with("more than one")), "{several}");
        }
        for none in ["", "x", "web2"] {
            assert!(found(none).is_err_and(|message| message.starts_with("no container")), "{none}");
        }
    }
}
