//! The files of the disk tier: where they lie, how they are written and found again.

use crate::key::CacheKey;
use bytes::{Buf as _, Bytes};
use std::{
    fs::{self, DirEntry, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 4] = b"TGD\x01";
const HEAD_LEN: usize = MAGIC.len() + 8;
const NEW: &str = "new";

#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    value_bytes_max: usize,
}

/// What a key's file holds.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    Value(Bytes),
    Gone,
    /// Not one of ours, or torn.
    Foreign,
}

/// A file that lies there.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) key: CacheKey,
    pub(super) until_ms: u64,
    pub(super) bytes: u64,
}

impl Files {
    pub(super) fn open(dir: &Path, value_bytes_max: usize) -> io::Result<Self> {
        let new = dir.join(NEW);
        fs::create_dir_all(&new)?;
        // What an earlier process did not finish.
        for left in fs::read_dir(&new)? {
            fs::remove_file(left?.path())?;
        }
        make_dirs(dir)?;
        Ok(Self { dir: dir.to_owned(), value_bytes_max })
    }

    fn path(&self, key: CacheKey) -> PathBuf {
        let hex = key.to_hex();
        let prefix = hex.get(..2).unwrap_or_default();
        self.dir.join(prefix).join(&hex)
    }

    /// Writes the value as a whole or not at all. How many bytes it occupies.
    pub(super) fn write(&self, key: CacheKey, until_ms: u64, value: &[u8]) -> io::Result<u64> {
        // One writer: no two files of one name.
        let new = self.dir.join(NEW).join("0");
        let write = || {
            let bytes = self.write_new(&new, until_ms, value)?;
            fs::rename(&new, self.path(key))?;
            Ok(bytes)
        };
        let written = write().or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            // Somebody has cleared the directory.
            make_dirs(&self.dir)?;
            write()
        });
        if written.is_err() {
            fs::remove_file(&new).ok();
        }
        written
    }

    fn write_new(&self, new: &Path, until_ms: u64, value: &[u8]) -> io::Result<u64> {
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&until_ms.to_le_bytes());
        let mut file = File::create(new)?;
        file.write_all(&head)?;
        file.write_all(value)?;
        Ok(occupied(HEAD_LEN.saturating_add(value.len())))
    }

    pub(super) fn read(&self, key: CacheKey) -> io::Result<Read> {
        let file = match File::open(self.path(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Gone),
            Err(error) => return Err(error),
        };
        let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if len > HEAD_LEN.saturating_add(self.value_bytes_max) {
            return Ok(Read::Foreign);
        }
        let mut bytes = Vec::with_capacity(len);
        file.take(u64::try_from(len).unwrap_or(0)).read_to_end(&mut bytes)?;
        let mut value = Bytes::from(bytes);
        if value.len() < HEAD_LEN || !value.starts_with(MAGIC) {
            return Ok(Read::Foreign);
        }
        value.advance(HEAD_LEN);
        Ok(Read::Value(value))
    }

    pub(super) fn remove(&self, key: CacheKey) {
        // Not there is as good.
        fs::remove_file(self.path(key)).ok();
    }

    /// Shows every file, until `more` says no. What is none of ours is removed: the directory is
    /// the tier's alone, and its room is counted.
    pub(super) fn each(&self, mut more: impl FnMut(Found) -> bool) -> io::Result<()> {
        for prefix in 0..=u8::MAX {
            for file in fs::read_dir(self.dir.join(format!("{prefix:02x}")))? {
                let file = file?;
                match found(&file) {
                    Ok(Some(found)) => {
                        if !more(found) {
                            return Ok(());
                        }
                    }
                    Ok(None) => {
                        fs::remove_file(file.path()).ok();
                    }
                    // Gone meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn make_dirs(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join(NEW))?;
    (0..=u8::MAX).try_for_each(|prefix| fs::create_dir_all(dir.join(format!("{prefix:02x}"))))
}

fn found(file: &DirEntry) -> io::Result<Option<Found>> {
    let Some(key) = file.file_name().to_str().and_then(CacheKey::from_hex) else { return Ok(None) };
    let mut head = [0; HEAD_LEN];
    let mut open = File::open(file.path())?;
    match open.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some(until_ms) = head.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk()) else {
        return Ok(None);
    };
    let bytes = open.metadata()?.size();
    let bytes = occupied(usize::try_from(bytes).unwrap_or(usize::MAX));
    Ok(Some(Found { key, until_ms: u64::from_le_bytes(*until_ms), bytes }))
}

/// A file occupies whole blocks, and an inode.
fn occupied(len: usize) -> u64 {
    const BLOCK: u64 = 4096;
    let len = u64::try_from(len).unwrap_or(u64::MAX / 2);
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}
