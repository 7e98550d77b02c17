//! How processes that share nothing yet come by one secret: rank 0 has it, the others fetch it.
//!
//! Over the address that torchrun and Kubeflow give (`MASTER_ADDR`, `MASTER_PORT`), or through a file in a folder that all
//! see (`GREFFON_RENDEZVOUS`, a path that no other run uses). Whoever waits does so for [`PATIENCE`].

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::Place;
use crate::error::TrainError;

/// How long a rank waits for the others.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Sent first, so that who asks something else at the port is not taken for a rank.
const GREETING: &[u8; 16] = b"greffon-rank-1\r\n";

/// Where the ranks meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// `host:port` of rank 0.
    Address(String),
    /// A file.
    File(PathBuf),
}

impl Meeting {
    /// As the environment says.
    pub(super) fn from_env(place: &Place) -> Result<Self, TrainError> {
        if let Some(path) = env::var_os("GREFFON_RENDEZVOUS") {
            return Ok(Self::File(path.into()));
        }
        match (env::var("MASTER_ADDR"), env::var("MASTER_PORT")) {
            (Ok(host), Ok(port)) => Ok(Self::Address(format!("{host}:{port}"))),
            _ => Err(place.error(
                "there is no place to meet: set MASTER_ADDR and MASTER_PORT, as torchrun does, or GREFFON_RENDEZVOUS to a \
                 file in a folder that all ranks see",
            )),
        }
    }

    /// Gives all ranks the bytes that `make` gives rank 0.
    pub(super) fn share<const N: usize>(
        &self,
        place: &Place,
        make: impl FnOnce() -> Result<[u8; N], TrainError>,
    ) -> Result<[u8; N], TrainError> {
        match (self, place.rank) {
            (Self::Address(address), 0) => hand_out(place, address, make()?),
            (Self::Address(address), _) => until_patience(place, address, || fetch(address)),
            (Self::File(path), 0) => {
                let bytes = make()?;
                adapters::write_atomic(path, true, |out| out.write_all(&bytes))?;
                Ok(bytes)
            }
            (Self::File(path), _) => until_patience(place, &path.display().to_string(), || read(path)),
        }
    }
}

/// Answers every other rank once.
fn hand_out<const N: usize>(place: &Place, address: &str, bytes: [u8; N]) -> Result<[u8; N], TrainError> {
    let port = address.rsplit(':').next().unwrap_or_default();
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| place.error(format!("cannot listen at port {port} ({error}); set another MASTER_PORT")))?;
    let started = Instant::now();
    let mut missing = place.ranks - 1;
    while missing > 0 {
        match listener.accept() {
            Ok((mut stream, _)) => missing -= usize::from(answer(&mut stream, &bytes).is_ok()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(place.error(format!("listening at port {port}: {error}"))),
        }
        if started.elapsed() > PATIENCE {
            let reason = format!("{missing} of the others have not come to {address} within five minutes");
            return Err(place.error(reason));
        }
    }
    Ok(bytes)
}

fn answer(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting)?;
    if greeting != *GREETING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.write_all(bytes)
}

fn fetch<const N: usize>(address: &str) -> io::Result<[u8; N]> {
    let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(GREETING)?;
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read<const N: usize>(path: &Path) -> io::Result<[u8; N]> {
    fs::read(path)?.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

fn until_patience<T>(place: &Place, whence: &str, mut get: impl FnMut() -> io::Result<T>) -> Result<T, TrainError> {
    let started = Instant::now();
    loop {
        match get() {
            Ok(got) => return Ok(got),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(place.error(format!("rank 0 is not to be found at {whence} within five minutes: {error}")));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Launcher;

    fn shared_by_three(meeting: &Meeting) {
        let place = |rank| Place { launcher: Launcher::Torchrun, rank, ranks: 3, local_rank: rank, local_ranks: 3 };
        let secret = [7; 128];
        thread::scope(|scope| {
            let get = |rank| scope.spawn(move || meeting.share(&place(rank), || Ok(secret)).unwrap());
            // The others are there first.
            let others = [get(2), get(1)];
            thread::sleep(PAUSE);
            assert_eq!(get(0).join().unwrap(), secret);
            for other in others {
                assert_eq!(other.join().unwrap(), secret);
            }
        });
    }

    #[test]
    fn all_ranks_get_what_rank_0_has_through_a_file() {
        let folder = tempfile::tempdir().unwrap();
        shared_by_three(&Meeting::File(folder.path().join("id")));
    }

    #[test]
    fn all_ranks_get_what_rank_0_has_over_an_address() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        thread::scope(|scope| {
            // Somebody else knocks, says something else, and is not counted.
            scope.spawn(|| {
                until_patience(
                    &Place { launcher: Launcher::None, rank: 1, ranks: 2, local_rank: 0, local_ranks: 1 },
                    &address,
                    || TcpStream::connect(&address)?.write_all(b"GET / HTTP/1.1\r\n\r\n"),
                )
                .unwrap();
            });
            shared_by_three(&Meeting::Address(address.clone()));
        });
    }
}
