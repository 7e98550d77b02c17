//! Writing a file so that a reader finds the old content or the new one, never a half.
//!
//! The new content lies under a hidden name that ends in `.part` in the same folder, is flushed to the disk, and is renamed
//! into place. An error leaves what was there before and removes the temporary; a kill may leave the temporary, which is safe
//! to delete. All files that this crate makes as a whole are written through here.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::DataError;

/// The ending of temporary names.
pub(crate) const ENDING: &str = "part";

/// A new file in a folder, which only its owner reads. It is removed unless it is published.
pub(crate) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().suffix(&format!(".{ENDING}")).tempfile_in(folder)
}

/// Gives a file that was written to its end its name, in the folder where it was made. What stood there is replaced.
pub(crate) fn publish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path);
    Ok(())
}

/// As [`publish`], but a file that stands there stays: [`io::ErrorKind::AlreadyExists`].
pub(crate) fn publish_new(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path);
    Ok(())
}

/// Writes a file whose readers the user's umask decides, as with any new file.
///
/// # Errors
/// [`DataError::Write`]; a file that stood there is then untouched.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), DataError> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let written = builder.suffix(&format!(".{ENDING}")).tempfile_in(folder_of(path)).and_then(|mut file| {
        file.write_all(content)?;
        publish(file, path)
    });
    written.map_err(|source| DataError::Write { path: path.to_owned(), source })
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Flushes the names in the folder of a file, without which a rename may be lost in a power cut. Best effort: some network
/// file systems cannot, and the content is on its way all the same.
fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for content in ["one", "two, longer"] {
            write(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        // A folder is in the way, and there is none.
        fs::create_dir(folder.path().join("b")).unwrap();
        for bad in ["b", "absent/c"] {
            let error = write(&folder.path().join(bad), b"x").unwrap_err().to_string();
            assert!(error.ends_with(&format!("{bad}: cannot be written")), "{error}");
        }
        let mut private = temporary(folder.path()).unwrap();
        private.write_all(b"three").unwrap();
        assert_eq!(publish_new(private, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two, longer");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary is left");
    }

    #[cfg(unix)]
    #[test]
    fn who_reads_a_file_is_as_with_any_new_file_unless_it_is_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        fs::write(folder.path().join("usual"), "").unwrap();
        write(&folder.path().join("own"), b"").unwrap();
        assert_eq!(mode("own"), mode("usual"));
        publish_new(temporary(folder.path()).unwrap(), &folder.path().join("private")).unwrap();
        assert_eq!(mode("private"), 0o600);
    }
}
