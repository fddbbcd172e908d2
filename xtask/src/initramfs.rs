//! The file system that a kernel starts from, as an archive of cpio's "new ASCII" format.
//!
//! Mirrors `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

/// `S_IFDIR`, and who may enter.
const FOLDER: u32 = 0o040_755;
/// `S_IFREG`, and who may execute.
const FILE: u32 = 0o100_755;

/// An archive that grows.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// An archive with nothing in it.
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), entries: 0 }
    }

    /// Adds a folder; its own folder must be there.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// Adds a file that may be executed; its folder must be there.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE, content);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(content.len()).expect("an entry of less than 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("a short name");
        self.bytes.extend_from_slice(b"070701");
        // Number, mode, owner, group, links, time, size, two pairs of device numbers, length of the name, no checksum.
        for field in [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_headers_names_and_contents_each_padded_to_four_bytes() {
        let mut archive = Archive::new();
        archive.folder("bin");
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let folder = "070701\
            00000001000041ed000000000000000000000001000000000000000000000000000000000000000000000000000000040000000\
            0bin\0\0\0";
        assert_eq!(&bytes[..116], folder.as_bytes());
        assert_eq!(&bytes[116 + 110..116 + 110 + 14], b"init\0\0hello\0\0\0");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(11).any(|name| name == b"TRAILER!!!\0"));
    }
}
