//! One run at a time in a folder.
//!
//! The lock is the system's, on an open file: it goes with the process that holds it, however that ends, so no dead owner
//! keeps a folder. On a shared file system its server keeps it (NFS: while the client's lease lasts).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::run_folder::host_name;
use crate::error::TrainError;

/// The file of the lock.
pub(super) const LOCK: &str = "run.lock";

/// How often, and how long after, a lock that is held is asked for again.
const LOOKS: u32 = 3;
const LOOK: Duration = Duration::from_millis(20);

/// A folder that this process alone writes to, until it is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the file ends the lock")] File);

impl Lock {
    /// Takes the lock of an existing folder, and notes in it who has it.
    ///
    /// # Errors
    /// [`TrainError::Run`] with the holder when another process has it; [`TrainError::Write`].
    pub fn take(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(LOCK);
        let failed = |source| TrainError::Write { path: path.clone(), source };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let mut taken = file.try_lock();
        for _ in 0..LOOKS {
            if !matches!(taken, Err(TryLockError::WouldBlock)) {
                break;
            }
            // Whoever only looks whether it is held has it for an instant.
            thread::sleep(LOOK);
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Best effort: whoever holds it may be writing its name.
                let _ = file.read_to_string(&mut holder);
                return Err(TrainError::Run(format!(
                    "{} is being written to by another run ({}); wait for it, stop it, or name another `output`",
                    folder.display(),
                    holder.trim()
                )));
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "{}: the file system has no locks ({error}); make sure that no other run writes there",
                    folder.display()
                );
                return Ok(Self(file));
            }
        }
        let holder = format!("process {} on {}\n", std::process::id(), host_name());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(holder.as_bytes()))
            .map_err(failed)?;
        Ok(Self(file))
    }

    /// Whether a process has the lock of a folder. It changes nothing there; where the system cannot tell, nobody has it.
    pub fn is_held(folder: &Path) -> bool {
        let Ok(file) = File::open(folder.join(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// Whether a name in a run folder is the lock's.
pub(super) fn is_lock(entry: &fs::DirEntry) -> bool {
    entry.file_name() == LOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::take(folder.path()).unwrap();
        let refused = Lock::take(folder.path()).unwrap_err().to_string();
        let own = format!("by another run (process {} on {})", std::process::id(), host_name());
        assert!(refused.contains(&own), "{refused}");
        assert!(Lock::is_held(folder.path()));
        drop(held);
        assert!(!Lock::is_held(folder.path()));
        Lock::take(folder.path()).unwrap();
    }
}
