//! The containers that have a time of their own: a folder for each, in `.containers` beside the namespaces of its user.
//!
//! In it are `record.json`, the agent's socket `agent`, the file `alive` that the agent locks, and `log`. The agent removes it.

pub use crate::timens::KernelOffsets;
use elsewhen::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a container's log becomes, about, in bytes.
const LOG_MAX: u64 = 64 << 10;

/// What tells a container from all others: runtimes keep containers in folders, and in each the ids are its own.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Key {
    /// The runtime's folder, where its caller names one (`--root`); empty otherwise.
    pub root: String,
    /// The id that its engine gave it.
    pub id: String,
}

impl Key {
    /// # Errors
    /// Where the id is none.
    pub(crate) fn new(root: Option<&Path>, id: &str) -> Result<Self> {
        if id.is_empty() || id.starts_with('.') || id.contains('/') {
            return Err(Error::other(format!("{id:?} is no id of a container")));
        }
        let root = root.map(|root| std::path::absolute(root).unwrap_or_else(|_| root.to_owned()));
        // Without what makes no difference, as a slash at the end.
        let root = root.map(|root| root.components().collect::<PathBuf>().to_string_lossy().into_owned());
        Ok(Self { root: root.unwrap_or_default(), id: id.to_owned() })
    }

    /// A number for both (FNV-1a), the same in every version.
    pub(crate) fn hash(&self) -> u64 {
        let bytes = self.root.bytes().chain([0]).chain(self.id.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

/// What is known of a container.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Container {
    /// What identifies it.
    #[serde(flatten)]
    pub key: Key,
    /// The name that people call it by, where its engine lets that be known.
    pub name: Option<String>,
    /// The name of its namespace.
    pub namespace: String,
    /// The inode of that one's page: another can have come by the name.
    pub page: u64,
    /// The folder of its bundle, as the runtime knows it.
    pub bundle: PathBuf,
    /// The process that supervises it.
    pub agent: u32,
    /// What a time namespace of the kernel's does beside it.
    pub kernel: Option<KernelOffsets>,
}

impl Container {
    /// What its agent had to say, a line each, oldest first.
    pub fn log(&self) -> Vec<String> {
        let folder = Folder::of(&self.key).ok().flatten();
        let text = folder.and_then(|folder| fs::read_to_string(folder.path.join("log")).ok());
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// All containers of this user, in order of their ids.
///
/// # Errors
/// Where the folder that they are kept in cannot be used.
pub fn all() -> Result<Vec<Container>> {
    elsewhen::runtime_folder()?;
    let mut all: Vec<Container> = records().collect();
    all.sort_unstable_by(|a, b| (&a.key.id, &a.key.root).cmp(&(&b.key.id, &b.key.root)));
    Ok(all)
}

/// Those with an id, whatever their runtime's folder.
pub(crate) fn of_id(id: &str) -> Vec<Container> {
    records().filter(|container| container.key.id == id).collect()
}

fn records() -> impl Iterator<Item = Container> {
    let folders = fs::read_dir(root()).into_iter().flatten();
    folders.filter_map(|entry| Folder { path: entry.ok()?.path() }.record())
}

/// A container by its id, by what only its id begins with, or by its name.
///
/// # Errors
/// Where there is more than one.
pub fn find(text: &str) -> Result<Option<Container>> {
    let all = all()?;
    pick(&all, text).map(Option::<&Container>::cloned)
}

/// The same, where there must be one.
///
/// # Errors
/// Where there is none, or more than one.
pub fn get(text: &str) -> Result<Container> {
    find(text)?.ok_or_else(|| {
        Error::other(format!(
            "no container {text:?} has a time of its own (of this user, {}); see `elsewhen ls`",
            elsewhen_linux::process::user()
        ))
    })
}

fn pick<'a>(all: &'a [Container], text: &str) -> Result<Option<&'a Container>> {
    let is_named = |container: &&Container| container.name.as_deref() == Some(text);
    let is_begun = |container: &&Container| !text.is_empty() && container.key.id.starts_with(text);
    let is_exact = |container: &&Container| container.key.id == text;
    for found in [&is_exact as &dyn Fn(&&Container) -> bool, &is_named, &is_begun] {
        let mut found = all.iter().filter(|container| found(container));
        match (found.next(), found.next()) {
            (Some(container), None) => return Ok(Some(container)),
            (Some(_), Some(_)) => {
                return Err(Error::other(format!("more than one container is called {text:?}: give more of its id")));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// What tells a file from all others.
pub(crate) fn place(metadata: std::io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    metadata.map(|file| (file.dev(), file.ino())).ok()
}

fn root() -> PathBuf {
    elsewhen::runtime_folder_path().join(".containers")
}

/// The folder of a container.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// That of a container which has one.
    ///
    /// # Errors
    /// Where it cannot be told, since not only this user can look into what it lies in.
    pub fn of(key: &Key) -> Result<Option<Self>> {
        let path = Self::path_of(key);
        if !path.is_dir() {
            return Ok(None);
        }
        elsewhen::runtime_folder()?;
        Ok(Some(Self { path }))
    }

    /// Makes it.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn make(key: &Key) -> Result<Self> {
        elsewhen::runtime_folder()?;
        let path = Self::path_of(key);
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&path);
        made.map_err(|error| Error::other(format!("make {}: {error}", path.display())))?;
        Ok(Self { path })
    }

    fn path_of(key: &Key) -> PathBuf {
        root().join(format!("{:016x}", key.hash()))
    }

    /// Keeps others from making, reviving or removing the same container meanwhile. `None` where the folder has been removed.
    ///
    /// # Errors
    /// Where it cannot be locked.
    pub fn lock(self) -> Result<Option<Locked>> {
        let failed = |error| Error::other(format!("lock {}: {error}", self.path.display()));
        let lock = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        lock.lock().map_err(failed)?;
        let is_there = place(lock.metadata()) == place(fs::metadata(&self.path));
        Ok(is_there.then_some(Locked { folder: self, _lock: lock }))
    }

    /// Says that this process is the agent, as long as the returned file is open.
    ///
    /// # Errors
    /// Where that cannot be done, or another one is.
    pub fn live(&self) -> Result<File> {
        let failed = |error: &dyn std::fmt::Display| Error::other(format!("lock {}: {error}", self.path.display()));
        let file = File::create(self.path.join("alive")).map_err(|error| failed(&error))?;
        // Who looks whether it is locked locks it for that moment.
        for _ in 0..100 {
            if file.try_lock().is_ok() {
                return Ok(file);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        file.try_lock().map_err(|error| failed(&error))?;
        Ok(file)
    }

    /// Whether there is an agent.
    pub fn has_agent(&self) -> bool {
        let alive = File::open(self.path.join("alive"));
        alive.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
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

    /// Adds a line to its log, as long as that is short: a container must not fill the folder by what it is refused. False where
    /// it is full.
    pub fn note(&self, line: &str) -> bool {
        let length = fs::metadata(self.path.join("log")).map_or(0, |log| log.len());
        if length > LOG_MAX {
            return false;
        }
        let line = if length + line.len() as u64 > LOG_MAX { "no more is noted here" } else { line };
        // Where that is full or gone there is nowhere else to say so.
        let _ = append(&self.path.join("log"), line);
        true
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
}

/// The folder of a container, which nobody else changes while this value or a copy of it in a forked process lives.
#[derive(Debug)]
pub struct Locked {
    folder: Folder,
    _lock: File,
}

impl Locked {
    /// Removes it.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.folder.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::other(format!("remove {}: {error}", self.folder.path.display())))
            }
            _ => Ok(()),
        }
    }
}

impl std::ops::Deref for Locked {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        &self.folder
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
            key: Key::new(None, id).unwrap(),
            name: name.map(str::to_owned),
            namespace: id.into(),
            page: 0,
            bundle: PathBuf::new(),
            agent: 1,
            kernel: None,
        };
        let all = [
            container("abc1", Some("web")),
            container("abc2", Some("abc1")),
            container("d", Some("two")),
            container("e", Some("two")),
        ];
        let found = |text: &str| {
            let found = pick(&all, text).map_err(|error| error.to_string());
            found.map(|container| container.map(|container| container.key.id.as_str()))
        };
        assert_eq!(found("web"), Ok(Some("abc1")));
        assert_eq!(found("abc1"), Ok(Some("abc1")), "the id goes before names");
        assert_eq!(found("abc2"), Ok(Some("abc2")));
        for several in ["abc", "two"] {
            assert!(found(several).is_err_and(|message| message.starts_with("more than one")), "{several}");
        }
        for none in ["", "x", "web2"] {
            assert_eq!(found(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn a_key_tells_containers_of_two_folders_apart() {
        let key = |root: Option<&str>, id: &str| Key::new(root.map(Path::new), id).unwrap();
        assert_eq!(key(Some("/run/a/"), "web"), key(Some("/run//a/."), "web"));
        let different = [key(None, "web"), key(Some("/run/a"), "web"), key(Some("/run/b"), "web"), key(None, "web2")];
        for (at, one) in different.iter().enumerate() {
            assert!(different[..at].iter().all(|other| other.hash() != one.hash()), "{one:?}");
        }
        assert_eq!(key(Some("/run/a"), "web").hash(), 0x9caa_ea66_4b2c_ee35, "kept by every version");
        for none in ["", ".x", "a/b"] {
            assert!(Key::new(None, none).is_err(), "{none}");
        }
    }
}
