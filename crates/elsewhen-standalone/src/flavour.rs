//! The images. `build.rs` has a table with a row for each; all are compiled from one source.

/// An image, or a pair of them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Flavour {
    /// Its name, as in reports.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it is built for: `64` is x86-64.
    pub abi: &'static str,
    /// How a process enters a namespace.
    pub switch: Switch,
    /// The ELF file; whoever is in no namespace has this, changed as `sites` says.
    pub image: &'static [u8],
    /// The ELF file of members, where they have another.
    pub member_image: Option<&'static [u8]>,
    /// Where code differs.
    pub sites: &'static [Site],
    /// Bytes of code, of one image.
    pub text_len: usize,
}

/// Bytes of code that are different for members.
#[derive(Debug)]
#[non_exhaustive]
pub struct Site {
    /// In the image.
    pub offset: usize,
    /// For whoever is in no namespace.
    pub host: [u8; 5],
    /// For members.
    pub member: [u8; 5],
}

impl Site {
    /// Whether one aligned store of eight bytes can change it.
    pub const fn is_atomic(&self) -> bool {
        self.offset % 8 + self.host.len() <= 8
    }
}

/// How a process enters a namespace, or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Not at all.
    Never,
    /// By a flag on the namespace's page.
    FlagOnPage,
    /// By a flag on the data page, of which each namespace has a copy that the timekeeper writes as well.
    FlagInLine,
    /// By jumps over no-ops, each one store of eight bytes.
    Branch,
    /// By returns over jumps, or these over those.
    Retcall,
    /// By another image in its place.
    Image,
    /// By another page in the data page's place.
    Page,
}

impl Switch {
    /// Whether threads may go on while it is done.
    pub const fn is_safe(self) -> bool {
        !matches!(self, Self::Retcall | Self::Image)
    }
}

include!(concat!(env!("OUT_DIR"), "/flavours.rs"));

/// The flavour of a name.
pub fn named(name: &str) -> Option<&'static Flavour> {
    FLAVOURS.iter().find(|flavour| flavour.name == name)
}
