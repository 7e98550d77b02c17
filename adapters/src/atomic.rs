//! Writing files and folders so that a reader finds the old content or the new one, never a half.
//!
//! The new content is built under a hidden temporary name in the same folder, flushed to the disk, and renamed into
//! place. A full disk, an error or a kill leaves what was there before. A kill can leave a temporary behind, named
//! `.<name>.<random>.partial`; it is safe to delete. Adapters, checkpoints and exports are all written through here.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::AdapterError;

/// Ending of temporary names, so that a person who finds one knows what it is.
const TEMPORARY_SUFFIX: &str = ".partial";

/// Writes a file through a temporary sibling; on an error the old file is untouched and the temporary removed.
///
/// A symbolic link at `path` is replaced by the file.
///
/// # Errors
/// [`AdapterError::Exists`] when the file exists and `overwrite` is false; [`AdapterError::Io`] when the closure
/// fails, the disk is full, or the folder does not exist or cannot be written.
pub fn write_atomic(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), AdapterError> {
    write_with_mode(path, overwrite, 0o666, write)
}

/// As [`write_atomic`], for a secret: its owner alone may read the file, at no time anybody else, and nothing is ever
/// replaced by it.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), AdapterError> {
    write_with_mode(path, false, 0o600, write)
}

fn write_with_mode(
    path: &Path,
    overwrite: bool,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), AdapterError> {
    let (parent, name) = split(path)?;
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(AdapterError::Exists { path: path.into() });
    }
    let mut temporary =
        temporary(&temporary_prefix(name), mode).tempfile_in(&parent).map_err(AdapterError::io("write", path))?;
    write_and_sync(temporary.as_file_mut(), write).map_err(AdapterError::io("write", path))?;
    if overwrite {
        temporary.persist(path).map_err(|error| AdapterError::io("replace", path)(error.error))?;
    } else {
        temporary.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => AdapterError::Exists { path: path.into() },
            _ => AdapterError::io("write", path)(error.error),
        })?;
    }
    sync_folder(&parent)
}

/// Builds a folder under a temporary sibling name, flushes it, and renames it into place.
///
/// `fill` gets the temporary folder and writes its files there in any way it likes. With `overwrite`, a folder that
/// exists is replaced **as a whole**, with everything in it; on Linux the two are exchanged in one step. Missing
/// parent folders are created. An empty folder at `path` counts as absent.
///
/// # Errors
/// What `fill` returns; [`AdapterError::Exists`] when there is a non-empty folder and `overwrite` is false;
/// [`AdapterError::File`] when `path` is a file; [`AdapterError::Io`] otherwise. The old folder stays in each case.
pub fn write_folder_atomic<E: From<AdapterError>>(
    path: &Path,
    overwrite: bool,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let (parent, name) = split(path)?;
    let occupied = is_occupied(path)?;
    if occupied && !overwrite {
        return Err(AdapterError::Exists { path: path.into() }.into());
    }
    fs::create_dir_all(&parent).map_err(AdapterError::io("create", &parent))?;
    let temporary = temporary(&temporary_prefix(name), 0o777)
        .tempdir_in(&parent)
        .map_err(AdapterError::io("create a folder beside", path))?;
    fill(temporary.path())?;
    sync_tree(temporary.path())?;
    if occupied {
        // After the exchange the temporary name holds the old folder, which is removed when `temporary` is dropped.
        exchange(temporary.path(), path).map_err(AdapterError::io("replace", path))?;
    } else {
        // A folder that another process made meanwhile is safe: renaming onto a non-empty folder fails.
        fs::rename(temporary.path(), path).map_err(AdapterError::io("rename a folder to", path))?;
    }
    sync_folder(&parent)?;
    Ok(())
}

/// The folder that holds `path`, and its own name.
fn split(path: &Path) -> Result<(PathBuf, &OsStr), AdapterError> {
    let Some(name) = path.file_name() else {
        let problem = "has no name of its own that could be written; name a file or folder inside it".into();
        return Err(AdapterError::File { path: path.into(), problem });
    };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok((parent, name))
}

/// The beginning of a hidden temporary name for `name`.
fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// A builder of temporaries; `mode` is what a plain `create` asks for, so that the user's umask decides.
fn temporary(prefix: &OsStr, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).suffix(TEMPORARY_SUFFIX).permissions(Permissions::from_mode(mode));
    builder
}

/// Whether a rename to `path` would have to replace something.
fn is_occupied(path: &Path) -> Result<bool, AdapterError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let problem = "is a file, expected a folder or nothing; choose another path".into();
            Err(AdapterError::File { path: path.into(), problem })
        }
        Err(error) => Err(AdapterError::io("list", path)(error)),
    }
}

/// Runs the writer on a buffer before the file, and brings everything to the disk.
fn write_and_sync(file: &mut File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut *file);
    write(&mut buffered)?;
    // Dropping the buffer would flush too, and swallow the error of a full disk.
    buffered.flush()?;
    drop(buffered);
    file.sync_all()
}

/// Flushes every file and folder below `folder`, the folder itself last.
fn sync_tree(folder: &Path) -> Result<(), AdapterError> {
    for entry in fs::read_dir(folder).map_err(AdapterError::io("list", folder))? {
        let entry = entry.map_err(AdapterError::io("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(AdapterError::io("inspect", &path))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path).and_then(|file| file.sync_all()).map_err(AdapterError::io("flush", &path))?;
        }
    }
    sync_folder(folder)
}

/// Flushes the names in a folder, without which a rename may be lost in a power cut.
fn sync_folder(folder: &Path) -> Result<(), AdapterError> {
    match File::open(folder).and_then(|file| file.sync_all()) {
        // Some network file systems cannot flush a folder; the content is on its way all the same.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(AdapterError::io("flush", folder)(error)),
        _ => Ok(()),
    }
}

/// Swaps two folders; afterwards `new` holds what `old` held.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;

        match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
            // File systems without the exchange, such as NFS.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    exchange_in_steps(new, old)
}

/// The exchange where the system has none: `old` is absent for an instant between two renames.
fn exchange_in_steps(new: &Path, old: &Path) -> io::Result<()> {
    let mut aside = new.as_os_str().to_owned();
    aside.push(".old");
    let aside = PathBuf::from(aside);
    fs::rename(old, &aside)?;
    if let Err(error) = fs::rename(new, old) {
        fs::rename(&aside, old)?;
        return Err(error);
    }
    fs::rename(&aside, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that is full after `left` bytes.
    struct Full<'a> {
        inner: &'a mut dyn Write,
        left: usize,
    }

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let written = self.inner.write(&bytes[..bytes.len().min(self.left)])?;
            self.left -= written;
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.inner.flush()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .expect("the test folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn a_file_is_written_and_not_replaced_unless_asked() {
        let folder = folder();
        let path = folder.path().join("weights.bin");
        write_atomic(&path, false, |out| out.write_all(b"one")).expect("a new file");
        let error = write_atomic(&path, false, |out| out.write_all(b"two")).expect_err("it exists");
        assert!(matches!(&error, AdapterError::Exists { path: named } if *named == path));
        assert!(error.to_string().contains("exists already and is not overwritten"), "{error}");
        assert_eq!(fs::read(&path).expect("the old file"), b"one");
        write_atomic(&path, true, |out| out.write_all(b"two")).expect("asked to");
        assert_eq!(fs::read(&path).expect("the new file"), b"two");
        assert_eq!(names(folder.path()), ["weights.bin"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_temporary() {
        let folder = folder();
        let path = folder.path().join("weights.bin");
        write_atomic(&path, false, |out| out.write_all(b"old")).expect("a new file");
        for left in [0, 1, 5000, 3 << 20] {
            let error = write_atomic(&path, true, |inner| Full { inner, left }.write_all(&vec![7; 4 << 20]))
                .expect_err("the disk is full");
            assert!(error.to_string().starts_with("cannot write "), "{error}");
            let source = std::error::Error::source(&error).expect("the system's reason");
            assert_eq!(source.to_string(), io::Error::from(io::ErrorKind::StorageFull).to_string());
            assert_eq!(fs::read(&path).expect("the old file"), b"old");
            assert_eq!(names(folder.path()), ["weights.bin"]);
        }
    }

    /// The few bytes stay in the buffer until the end, so only the last flush can notice.
    #[test]
    #[cfg(target_os = "linux")]
    fn an_error_of_the_last_flush_is_not_lost() {
        let mut full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let error = write_and_sync(&mut full, |out| out.write_all(b"few")).expect_err("the device is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn permissions_are_those_of_a_plain_create() {
        let folder = folder();
        let (plain, ours) = (folder.path().join("plain"), folder.path().join("ours"));
        fs::write(&plain, b"").expect("a file");
        write_atomic(&ours, false, |_| Ok(())).expect("a file");
        let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
        let (plain, ours) = (folder.path().join("plain_folder"), folder.path().join("our_folder"));
        fs::create_dir(&plain).expect("a folder");
        write_folder_atomic::<AdapterError>(&ours, false, |_| Ok(())).expect("a folder");
        assert_eq!(mode(&ours), mode(&plain));
    }

    fn fill(content: &'static str) -> impl FnOnce(&Path) -> Result<(), AdapterError> {
        move |folder| {
            let path = folder.join("inner").join("file");
            fs::create_dir(folder.join("inner"))
                .and_then(|()| fs::write(&path, content))
                .map_err(AdapterError::io("write", path))
        }
    }

    #[test]
    fn a_folder_appears_whole_and_is_not_replaced_unless_asked() {
        let folder = folder();
        let path = folder.path().join("made").join("checkpoint");
        write_folder_atomic(&path, false, fill("one")).expect("a new folder, its parent created");
        let error = write_folder_atomic(&path, false, fill("two")).expect_err("it exists");
        assert!(matches!(error, AdapterError::Exists { .. }));
        assert_eq!(fs::read(path.join("inner/file")).expect("the old file"), b"one");
        write_folder_atomic(&path, true, fill("two")).expect("asked to");
        assert_eq!(fs::read(path.join("inner/file")).expect("the new file"), b"two");
        assert_eq!(names(&folder.path().join("made")), ["checkpoint"]);
    }

    #[test]
    fn a_folder_that_fails_half_way_leaves_the_old_one() {
        let folder = folder();
        let path = folder.path().join("checkpoint");
        write_folder_atomic(&path, false, fill("old")).expect("a new folder");
        let full = write_folder_atomic(&path, true, |inner| {
            fs::write(inner.join("half"), b"half").map_err(AdapterError::io("write", inner))?;
            Err(AdapterError::io("write", inner)(io::ErrorKind::StorageFull.into()))
        });
        assert!(full.is_err());
        assert_eq!(fs::read(path.join("inner/file")).expect("the old file"), b"old");
        assert_eq!(names(folder.path()), ["checkpoint"]);
    }

    #[test]
    fn the_exchange_in_steps_swaps_and_leaves_nothing_else() {
        let folder = folder();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        for (path, content) in [(&new, "new"), (&old, "old")] {
            fs::create_dir(path).and_then(|()| fs::write(path.join("file"), content)).expect("a folder");
        }
        exchange_in_steps(&new, &old).expect("both exist");
        assert_eq!(fs::read(old.join("file")).expect("swapped"), b"new");
        assert_eq!(fs::read(new.join("file")).expect("swapped"), b"old");
        assert_eq!(names(folder.path()), ["new", "old"]);
        exchange_in_steps(&folder.path().join("absent"), &old).expect_err("nothing to put in place");
        assert_eq!(fs::read(old.join("file")).expect("put back"), b"new");
    }

    #[test]
    fn a_path_that_cannot_be_a_target_is_refused() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, b"kept").expect("a file");
        let error = write_folder_atomic(&file, true, fill("x")).expect_err("a file is in the way");
        assert!(error.to_string().contains("is a file, expected a folder or nothing"), "{error}");
        assert_eq!(fs::read(&file).expect("untouched"), b"kept");
        for path in ["/", "..", "."] {
            let error = write_folder_atomic(Path::new(path), true, fill("x")).expect_err("no name");
            assert!(error.to_string().contains("has no name of its own"), "{error}");
        }
        let error = write_atomic(&folder.path().join("absent/file"), true, |_| Ok(())).expect_err("no folder");
        assert!(matches!(error, AdapterError::Io { action: "write", .. }));
    }
}
