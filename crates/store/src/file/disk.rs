//! The few operations on a directory and its files that the log needs, as traits, so that tests can put a disk
//! underneath that fills up, fails and loses power; and their real form.
//!
//! Nothing here knows what the files hold.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

/// One flat directory that belongs to one log.
pub(super) trait Directory: fmt::Debug + Send + Sync {
    fn list(&self) -> io::Result<Vec<String>>;
    /// An existing file, to read and write.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// An empty file, in place of one that may exist.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync(&self) -> io::Result<()>;
    /// For messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// One file; offsets and lengths in bytes.
pub(super) trait DiskFile: fmt::Debug + Send {
    fn len(&self) -> io::Result<u64>;
    /// May read less than asked for; 0 is the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// May write less than given.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes all of `bytes`; on an error any part of them may have been written.
pub(super) fn write_all_at(file: &mut dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to `len` bytes; fewer only at the end of the file.
pub(super) fn read_up_to(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let available = file.len()?.saturating_sub(offset);
    let mut buffer = vec![0; len.min(usize::try_from(available).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Puts a whole file into place: under `name` there is, at every moment and after a crash, what was there before
/// or all of `parts`.
pub(super) fn write_whole(
    directory: &dyn Directory,
    name: &str,
    parts: &[&[u8]],
) -> io::Result<Box<dyn DiskFile>> {
    let unfinished = format!("{name}{UNFINISHED}");
    let written = (|| {
        let mut file = directory.create(&unfinished)?;
        let mut offset = 0;
        for part in parts {
            write_all_at(&mut *file, part, offset)?;
            offset += part.len() as u64;
        }
        file.sync()?;
        Ok(file)
    })();
    let file = match written {
        Ok(file) => file,
        Err(error) => {
            // On a full disk the space is wanted back at once. Should this fail too, opening removes the file.
            let _ = directory.remove(&unfinished);
            return Err(error);
        }
    };
    directory.rename(&unfinished, name)?;
    directory.sync()?;
    Ok(file)
}

/// How the name of a file ends that was not put into place yet.
pub(super) const UNFINISHED: &str = ".unfinished";
pub(super) const LOCK: &str = "lock";
/// What a holder says of itself in the lock file, cut to this many bytes; of fixed size so that it is written in
/// place and a full disk does not stand in the way.
const HOLDER_LEN: usize = 256;

/// A directory of the file system, held by a lock as long as this value lives.
#[derive(Debug)]
pub(super) struct RealDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory was not to be had.
#[derive(Debug)]
pub(super) enum LockError {
    Held { by: String },
    Io { action: &'static str, error: io::Error },
}

impl RealDirectory {
    /// Makes the directory when it is missing and locks it. `holder` is what another process is told.
    pub(super) fn lock(path: &Path, holder: &str) -> Result<Self, LockError> {
        let io = |action| move |error| LockError::Io { action, error };
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(io("create the directory"))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))
                .and_then(|parent| parent.sync_all())
                .map_err(io("make the new directory durable"))?;
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(io("open the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut by = Vec::new();
                let read = (&lock).take(HOLDER_LEN as u64).read_to_end(&mut by);
                let by = String::from_utf8_lossy(&by).trim_end_matches(['\0', ' ', '\n']).to_owned();
                let by = if read.is_err() || by.is_empty() { "another process".to_owned() } else { by };
                return Err(LockError::Held { by });
            }
            Err(TryLockError::Error(error)) => {
                return Err(LockError::Io { action: "lock the directory", error });
            }
        }
        let mut text = vec![b' '; HOLDER_LEN];
        let len = holder.len().min(HOLDER_LEN - 1);
        text[..len].copy_from_slice(&holder.as_bytes()[..len]);
        text[HOLDER_LEN - 1] = b'\n';
        // The lock holds without it: the text only makes another process's message better, and a disk without
        // room for it must not keep the log from being opened.
        let _ = lock.write_all(&text);
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

impl Directory for RealDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
