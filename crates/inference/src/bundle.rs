//! The artifact: one file that holds everything a version needs, named by the digest of its content.
//!
//! ```text
//! "HOMEOSTB"  u32 format  u32 sections
//! for each section, by name: u16 length of name, name, u8 form, u64 length of content, 32 bytes BLAKE3 of content,
//!                            u64 bytes in this file
//! 32 bytes BLAKE3 of all the above
//! 32 bytes BLAKE3 of all that follows
//! the contents, one after the other
//! ```
//! Forms: 0 as it is; 1 deflated; 2 not in this file but a blob of its own under the digest of its content. What versions
//! share and no answer needs, the monitors' reference, has form 2: a variant names its parent's. Format 1 has neither
//! forms nor bytes in the file nor the second digest; it is still read. Numbers are little-endian. Each byte is covered by
//! a digest, so that any damage is found and named.

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use vocabulary::Digest;

const MAGIC: &[u8; 8] = b"HOMEOSTB";

/// Version of the container on disk.
const FORMAT: u32 = 2;

/// What a deflated section may hold at most, in bytes: a small file cannot ask for all memory.
const DEFLATED_MAX: u64 = 1 << 30;

/// More sections than this are damage, not a bundle.
const SECTIONS_MAX: usize = 256;

/// Longest name of a section, in bytes.
const NAME_MAX: usize = 128;

/// The sections of a version.
pub mod section {
    pub const MANIFEST: &str = "manifest.json";
    pub const CONTRACT: &str = "contract.json";
    pub const SPEC: &str = "spec.json";
    pub const PIPELINE: &str = "pipeline.json";
    pub const MODEL: &str = "model.bin";
    pub const CALIBRATION: &str = "calibration.json";
    pub const REFERENCE: &str = "reference.json";

    /// What an earlier training needs to answer.
    pub const TO_ANSWER: [&str; 4] = [MANIFEST, PIPELINE, MODEL, CALIBRATION];

    /// A section that lies beside the bundle, as a blob of its own.
    pub const BESIDE: &str = REFERENCE;

    /// How the names of earlier trainings' sections begin.
    pub(crate) const EARLIER: &str = "earlier.";

    /// Where a section of the earlier training of this place is kept.
    pub(crate) fn earlier(place: usize, name: &str) -> String {
        format!("{EARLIER}{place}.{name}")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// As which it is written: the one it was read from.
    format: Format,
    sections: BTreeMap<String, Content>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    One,
    #[default]
    Two,
}

/// What a section holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Here(Vec<u8>),
    Beside { length: u64, digest: Digest },
}

/// A blob that lies beside a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside {
    pub length: u64,
    pub digest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("this is no bundle: it does not begin with HOMEOSTB")]
    Magic,
    #[error("the bundle has format {found}, this program reads {FORMAT}; use a newer program")]
    Format { found: u32 },
    #[error("the bundle ends after {found} bytes, where {expected} are expected; fetch it again")]
    Truncated { expected: u64, found: u64 },
    #[error("the bundle has {0} bytes after its last section; fetch it again")]
    Trailing(u64),
    #[error("the bundle's table of sections is damaged: {0}; fetch it again")]
    Table(String),
    #[error("the bundle's section \"{0}\" is damaged: its digest does not fit; fetch it again")]
    Section(String),
    #[error("the bundle's section \"{0}\" cannot be inflated; fetch it again")]
    Deflated(String),
    #[error("the bundle's section \"{name}\" is the blob {digest} beside it, which was not read")]
    Beside { name: String, digest: Digest },
    #[error("the blob for the bundle's section \"{name}\" is another: {digest} was expected")]
    Other { name: String, digest: Digest },
    #[error("the bundle has no section \"{0}\"; it was made by another program or is not a model's version")]
    Missing(String),
    #[error("the bundle's section \"{section}\" cannot be read")]
    Json { section: String, source: serde_json::Error },
    #[error("\"{0}\" cannot name a section: 1 to 128 printable ASCII characters are allowed")]
    Name(String),
    #[error("{0} sections are more than a bundle can hold ({SECTIONS_MAX})")]
    TooMany(usize),
}

impl Bundle {
    pub fn new(sections: BTreeMap<String, Vec<u8>>) -> Result<Bundle, BundleError> {
        if let Some(name) = sections.keys().find(|name| !good_name(name)) {
            return Err(BundleError::Name(name.clone()));
        }
        if sections.len() > SECTIONS_MAX {
            return Err(BundleError::TooMany(sections.len()));
        }
        let sections = sections.into_iter().map(|(name, content)| (name, Content::Here(content))).collect();
        Ok(Bundle { format: Format::Two, sections })
    }

    /// The bundle with some of its sections set anew, in the newest format.
    pub fn with(mut self, sections: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Bundle, BundleError> {
        for (name, content) in sections {
            if !good_name(&name) {
                return Err(BundleError::Name(name));
            }
            self.sections.insert(name, Content::Here(content));
        }
        self.format = Format::Two;
        match self.sections.len() {
            count if count > SECTIONS_MAX => Err(BundleError::TooMany(count)),
            _ => Ok(self),
        }
    }

    /// Adds what other bundles' own trainings need to answer, so that their answers can be averaged with this one's.
    pub fn with_earlier<'a>(self, others: impl IntoIterator<Item = &'a Bundle>) -> Result<Bundle, BundleError> {
        let mut added = Vec::new();
        for (place, other) in others.into_iter().enumerate() {
            for name in section::TO_ANSWER {
                added.push((section::earlier(place, name), other.section(name)?.to_vec()));
            }
        }
        self.with(added)
    }

    /// The earlier trainings in this bundle, each as a bundle that can answer.
    pub fn earlier(&self) -> impl Iterator<Item = Result<Bundle, BundleError>> {
        let count = (0..).take_while(|place| self.sections.contains_key(&section::earlier(*place, section::MANIFEST)));
        count.map(|place| {
            let part = |name: &str| Ok((name.to_owned(), self.section(&section::earlier(place, name))?.to_vec()));
            Bundle::new(section::TO_ANSWER.into_iter().map(part).collect::<Result<_, BundleError>>()?)
        })
    }

    /// What belongs to this training alone, without the earlier ones that are averaged in.
    pub fn own(&self) -> Bundle {
        let own = self.sections.iter().filter(|(name, _)| !name.starts_with(section::EARLIER));
        Bundle { format: self.format, sections: own.map(|(name, content)| (name.clone(), content.clone())).collect() }
    }

    /// The blob beside the bundle, where a section is one.
    pub fn beside(&self) -> Option<Beside> {
        match self.sections.get(section::BESIDE)? {
            Content::Beside { length, digest } => Some(Beside { length: *length, digest: *digest }),
            Content::Here(content) if self.format == Format::Two => {
                Some(Beside { length: content.len() as u64, digest: Digest::of(content) })
            }
            Content::Here(_) => None,
        }
    }

    /// What [`Bundle::beside`] names, where this bundle holds it.
    pub fn beside_content(&self) -> Option<&[u8]> {
        self.beside().and_then(|_| self.section(section::BESIDE).ok())
    }

    /// Takes in the blob that [`Bundle::beside`] names.
    pub fn attach(&mut self, content: Vec<u8>) -> Result<(), BundleError> {
        let Some(Beside { digest, .. }) = self.beside() else { return Ok(()) };
        if Digest::of(&content) != digest {
            return Err(BundleError::Other { name: section::BESIDE.to_owned(), digest });
        }
        self.sections.insert(section::BESIDE.to_owned(), Content::Here(content));
        Ok(())
    }

    /// The names of the sections that two bundles don't have alike.
    pub fn differing(&self, other: &Bundle) -> Vec<String> {
        let digests = |bundle: &Bundle| -> BTreeMap<String, Digest> {
            bundle.sections.iter().map(|(name, content)| (name.clone(), content.digest())).collect()
        };
        let (ours, theirs) = (digests(self), digests(other));
        let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        names.into_iter().filter(|name| ours.get(*name) != theirs.get(*name)).cloned().collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sections.keys().map(String::as_str)
    }

    pub fn section(&self, name: &str) -> Result<&[u8], BundleError> {
        match self.sections.get(name) {
            Some(Content::Here(content)) => Ok(content),
            Some(Content::Beside { digest, .. }) => Err(BundleError::Beside { name: name.to_owned(), digest: *digest }),
            None => Err(BundleError::Missing(name.to_owned())),
        }
    }

    /// A section that holds JSON, read as `T`.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, BundleError> {
        let bytes = self.section(name)?;
        serde_json::from_slice(bytes).map_err(|source| BundleError::Json { section: name.to_owned(), source })
    }

    /// The same value always gives the same bytes, where its maps are ordered.
    pub fn json_section<T: Serialize>(name: &str, value: &T) -> Result<(String, Vec<u8>), BundleError> {
        match serde_json::to_vec(value) {
            Ok(bytes) => Ok((name.to_owned(), bytes)),
            Err(source) => Err(BundleError::Json { section: name.to_owned(), source }),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.format.number().to_le_bytes());
        bytes.extend((self.sections.len() as u32).to_le_bytes());
        let mut contents = Vec::new();
        for (name, content) in &self.sections {
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend(name.as_bytes());
            let stored = match self.format {
                Format::One => None,
                Format::Two => Some(stored(name, content)),
            };
            bytes.extend(stored.iter().map(|(form, _)| *form as u8));
            bytes.extend(content.length().to_le_bytes());
            bytes.extend(content.digest().0);
            match (stored, content) {
                (Some((_, stored)), _) => {
                    bytes.extend((stored.len() as u64).to_le_bytes());
                    contents.extend(stored);
                }
                (None, Content::Here(content)) => contents.extend(content),
                (None, Content::Beside { .. }) => {}
            }
        }
        bytes.extend(Digest::of(&bytes).0);
        if self.format == Format::Two {
            bytes.extend(Digest::of(&contents).0);
        }
        bytes.extend(contents);
        bytes
    }

    /// BLAKE3 of [`Bundle::encode`]: the version's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// Reads what [`Bundle::encode`] wrote; every damage is found.
    pub fn decode(bytes: &[u8]) -> Result<Bundle, BundleError> {
        let mut reader = Reader { whole: bytes, at: 0 };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(BundleError::Magic);
        }
        reader.at = 8;
        let format = match u32::from_le_bytes(reader.take()?) {
            1 => Format::One,
            FORMAT => Format::Two,
            found => return Err(BundleError::Format { found }),
        };
        let table = reader.table(format)?;
        let end = reader.at;
        let declared = Digest(reader.take()?);
        if Digest::of(&bytes[..end]) != declared {
            return Err(BundleError::Table("its digest does not fit".to_owned()));
        }
        let whole = if format == Format::Two { Some(Digest(reader.take()?)) } else { None };
        let from = reader.at;
        let mut sections = BTreeMap::new();
        for entry in table {
            let stored = reader.slice(entry.stored)?;
            let content = match entry.form {
                Form::Beside => Content::Beside { length: entry.length, digest: entry.digest },
                Form::Plain => Content::Here(stored.to_vec()),
                Form::Deflated => {
                    Content::Here(inflated(stored, entry.length).ok_or(BundleError::Deflated(entry.name.clone()))?)
                }
            };
            if content.digest() != entry.digest {
                return Err(BundleError::Section(entry.name));
            }
            sections.insert(entry.name, content);
        }
        match bytes.len() - reader.at {
            0 => {}
            rest => return Err(BundleError::Trailing(rest as u64)),
        }
        // Deflating has many ways to write the same content; only the one that was written is this bundle.
        if whole.is_some_and(|whole| Digest::of(&bytes[from..]) != whole) {
            return Err(BundleError::Table("the digest of what follows it does not fit".to_owned()));
        }
        Ok(Bundle { format, sections })
    }
}

impl Format {
    fn number(self) -> u32 {
        match self {
            Format::One => 1,
            Format::Two => 2,
        }
    }
}

impl Content {
    fn length(&self) -> u64 {
        match self {
            Content::Here(content) => content.len() as u64,
            Content::Beside { length, .. } => *length,
        }
    }

    fn digest(&self) -> Digest {
        match self {
            Content::Here(content) => Digest::of(content),
            Content::Beside { digest, .. } => *digest,
        }
    }
}

/// How a section stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain = 0,
    Deflated = 1,
    Beside = 2,
}

/// JSON is deflated: it shrinks to a third. Models are dense already, and read as they are.
fn stored(name: &str, content: &Content) -> (Form, Vec<u8>) {
    match content {
        Content::Beside { .. } => (Form::Beside, Vec::new()),
        Content::Here(_) if name == section::BESIDE => (Form::Beside, Vec::new()),
        Content::Here(content) if name.ends_with(".json") => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            let deflated = encoder.write_all(content).and_then(|()| encoder.finish());
            match deflated {
                Ok(deflated) if deflated.len() < content.len() => (Form::Deflated, deflated),
                _ => (Form::Plain, content.clone()),
            }
        }
        Content::Here(content) => (Form::Plain, content.clone()),
    }
}

/// None where it does not have that length.
fn inflated(stored: &[u8], length: u64) -> Option<Vec<u8>> {
    if length > DEFLATED_MAX {
        return None;
    }
    let mut content = Vec::new();
    let read = DeflateDecoder::new(stored).take(length + 1).read_to_end(&mut content).ok()?;
    (read as u64 == length).then_some(content)
}

fn good_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

struct Entry {
    name: String,
    form: Form,
    length: u64,
    digest: Digest,
    /// Bytes in this file.
    stored: u64,
}

struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn slice(&mut self, length: u64) -> Result<&'a [u8], BundleError> {
        let found = self.whole.len() as u64;
        let expected = (self.at as u64).saturating_add(length);
        if expected > found {
            return Err(BundleError::Truncated { expected, found });
        }
        let from = std::mem::replace(&mut self.at, expected as usize);
        Ok(&self.whole[from..self.at])
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let mut taken = [0; N];
        taken.copy_from_slice(self.slice(N as u64)?);
        Ok(taken)
    }

    fn form(&mut self, format: Format) -> Result<Option<Form>, BundleError> {
        if format == Format::One {
            return Ok(Some(Form::Plain));
        }
        let [form] = self.take()?;
        Ok([Form::Plain, Form::Deflated, Form::Beside].into_iter().find(|known| *known as u8 == form))
    }

    fn table(&mut self, format: Format) -> Result<Vec<Entry>, BundleError> {
        let damaged = |what: &str| BundleError::Table(what.to_owned());
        let count = u32::from_le_bytes(self.take()?) as usize;
        if count > SECTIONS_MAX {
            return Err(damaged("it announces too many sections"));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(count);
        for _ in 0..count {
            let length = u16::from_le_bytes(self.take()?);
            let name = String::from_utf8(self.slice(u64::from(length))?.to_vec()).unwrap_or_default();
            if !good_name(&name) || entries.last().is_some_and(|last| last.name >= name) {
                return Err(damaged("a name is not printable or out of order"));
            }
            let Some(form) = self.form(format)? else {
                return Err(damaged("a section has a form that this program doesn't know"));
            };
            let length = u64::from_le_bytes(self.take()?);
            let digest = Digest(self.take()?);
            let stored = match format {
                Format::One => length,
                Format::Two => u64::from_le_bytes(self.take()?),
            };
            let fits = match form {
                Form::Plain => stored == length,
                Form::Deflated => true,
                Form::Beside => stored == 0,
            };
            if !fits {
                return Err(damaged("a section's two lengths don't fit each other"));
            }
            entries.push(Entry { name, form, length, digest, stored });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bundle() -> Bundle {
        let sections = [("b.bin", vec![1u8, 2, 3]), ("a.json", b"{\"x\":1}".to_vec()), ("empty", vec![])];
        Bundle::new(sections.map(|(name, content)| (name.to_owned(), content)).into()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let decoded = Bundle::decode(&bundle().encode()).unwrap();
        assert_eq!(decoded, bundle());
        assert_eq!(decoded.digest(), Digest::of(&bundle().encode()));
        assert_eq!(decoded.names().collect::<Vec<_>>(), ["a.json", "b.bin", "empty"]);
        assert_eq!(decoded.json::<serde_json::Value>("a.json").unwrap()["x"], 1);
        assert!(matches!(decoded.section("c"), Err(BundleError::Missing(_))));
        assert!(matches!(decoded.json::<u8>("b.bin"), Err(BundleError::Json { .. })));
    }

    #[test]
    fn earlier_trainings_are_carried_without_their_own_earlier_ones() {
        let training = |model: &[u8]| {
            let sections = section::TO_ANSWER.map(|name| (name.to_owned(), model.to_vec()));
            Bundle::new(sections.into()).unwrap()
        };
        let second = training(b"2").with_earlier([&training(b"1")]).unwrap();
        let third = training(b"3").with_earlier([&second, &training(b"1")]).unwrap();
        let carried: Vec<Bundle> = Bundle::decode(&third.encode()).unwrap().earlier().map(Result::unwrap).collect();
        assert_eq!(carried, [training(b"2"), training(b"1")]);
        assert_eq!(third.section(section::MODEL).unwrap(), b"3");
        assert_eq!(third.own(), training(b"3"));
        assert!(matches!(training(b"1").with_earlier([&bundle()]), Err(BundleError::Missing(_))));
    }

    /// The container's form is a promise: a version stored once is read by each later program, and keeps its name.
    #[test]
    fn the_bytes_of_each_format_stay_as_they_are() {
        let first = Bundle { format: Format::One, ..bundle() };
        assert_eq!(first.digest().to_string(), "7b139afa49a6503b708d64a67106201e1727f978a61543b2ef8dbc25d4466d14");
        let again = Bundle::decode(&first.encode()).unwrap();
        assert_eq!(again, first);
        assert_eq!(again.digest(), first.digest());
        assert_eq!(bundle().digest().to_string(), "bdca0015bfdf9c664c3d3e768bbf455221aac05bb709c472c637a33d2238a952");
    }

    #[test]
    fn the_reference_lies_beside_and_a_variant_names_its_parents() {
        let reference = vec![b'7'; 100_000];
        let parent = bundle().with([(section::REFERENCE.to_owned(), reference.clone())]).unwrap();
        let bytes = parent.encode();
        assert!(bytes.len() < 1000, "{}", bytes.len());
        let mut read = Bundle::decode(&bytes).unwrap();
        assert_eq!(read.beside(), Some(Beside { length: 100_000, digest: Digest::of(&reference) }));
        assert!(matches!(read.section(section::REFERENCE), Err(BundleError::Beside { .. })));
        // A variant that was made without the blob at hand names it all the same.
        let variant = read.own().with([("b.bin".to_owned(), vec![9])]).unwrap();
        let known = parent.clone().with([("b.bin".to_owned(), vec![9])]).unwrap();
        assert_eq!((variant.beside(), variant.digest()), (parent.beside(), known.digest()));
        assert!(matches!(read.attach(vec![b'8'; 100_000]), Err(BundleError::Other { .. })));
        read.attach(reference.clone()).unwrap();
        assert_eq!(read.section(section::REFERENCE).unwrap(), reference);
        assert_eq!((read.beside_content(), &read), (Some(&reference[..]), &parent));
        // What was written in the first format has everything inside.
        let first = Bundle { format: Format::One, ..parent };
        let read = Bundle::decode(&first.encode()).unwrap();
        assert_eq!((read.beside(), read.section(section::REFERENCE).unwrap().len()), (None, 100_000));
    }

    #[test]
    fn json_is_deflated_and_what_is_no_deflated_json_is_refused() {
        let long = Bundle::new([("a.json".to_owned(), b"[1,1,1]".repeat(1000))].into()).unwrap();
        let bytes = long.encode();
        assert!(bytes.len() < 300, "{}", bytes.len());
        assert_eq!(Bundle::decode(&bytes).unwrap(), long);
        assert_eq!(inflated(&[1, 2, 3], 7), None);
        let (form, stored) = stored("a.json", &Content::Here(b"[1,1,1]".repeat(1000)));
        assert_eq!((form, inflated(&stored, 6999), inflated(&stored, 7001)), (Form::Deflated, None, None));
        assert_eq!(inflated(&stored, DEFLATED_MAX + 1), None);
    }

    #[test]
    fn each_damage_has_its_name() {
        let good = bundle().encode();
        let error = |bytes: &[u8]| Bundle::decode(bytes).unwrap_err().to_string();
        assert!(error(b"").contains("no bundle"));
        assert!(error(&good[..good.len() - 1]).contains("ends after"));
        assert!(error(&[&good[..], b"x"].concat()).contains("1 bytes after"));
        let flipped = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            error(&bytes)
        };
        assert!(flipped(0).contains("no bundle"));
        assert!(flipped(8).contains("format 3"));
        assert!(flipped(40).contains("table of sections is damaged"));
        assert!(flipped(good.len() - 1).contains("section \"b.bin\" is damaged"));
        assert!(Bundle::new([("no\nname".to_owned(), vec![])].into()).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_bundle_is_refused(at in 0usize..1000, bits in 1u8..=255) {
            let mut bytes = bundle().encode();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            prop_assert!(Bundle::decode(&bytes).is_err());
        }

        #[test]
        fn a_shortened_bundle_is_refused(length in 0usize..1000) {
            let bytes = bundle().encode();
            prop_assert!(Bundle::decode(&bytes[..length % bytes.len()]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Bundle::decode(&noise);
            let _ = Bundle::decode(&[&b"HOMEOSTB\x01\0\0\0"[..], &noise].concat());
            let _ = Bundle::decode(&[&b"HOMEOSTB\x02\0\0\0"[..], &noise].concat());
        }
    }
}
