//! A port of this machine that leads into the cluster's network.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::error::{IoContext, TestbedError};

const OWN_NETWORK: &str = "/proc/self/ns/net";

/// Passes connections to a port of this machine's loopback on to an address in another network.
///
/// It runs on a thread of its own, and that thread has joined the other network: the port was opened before, every
/// connection onwards is made from there. No process is needed inside, and nothing ends a connection but its ends.
///
/// Dropped, it ends all its connections before `drop` returns.
pub struct Relay {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// `network` is a file as `/proc/PID/ns/net`. Needs root.
    pub(crate) fn start(
        listener: TcpListener,
        network: &Path,
        target: SocketAddr,
    ) -> Result<Self, TestbedError> {
        let context = || format!("relaying to {target}");
        let address = listener.local_addr().context(context)?;
        // An address of a cluster may be somebody's in the network outside.
        if std::fs::read_link(network).context(context)?
            == std::fs::read_link(OWN_NETWORK).context(context)?
        {
            return Err(io::ErrorKind::NetworkUnreachable.into()).context(context);
        }
        let network = File::open(network).context(context)?;
        allow_many_files();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let serve = move || match join_network(&network, listener) {
            Ok((runtime, listener)) => {
                drop((network, ready.send(Ok(()))));
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, target) => (),
                        // A dropped sender is as good as an order.
                        _ = stopped => (),
                    }
                });
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(serve);
        let this = Self {
            address,
            stop: Some(stop),
            thread: Some(thread.context(context)?),
        };
        is_ready
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .context(context)?;
        Ok(this)
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves this thread into the network. The runtime is of one thread so that all of its sockets are made by this one.
fn join_network(
    network: &File,
    listener: TcpListener,
) -> io::Result<(tokio::runtime::Runtime, tokio::net::TcpListener)> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listener.set_nonblocking(true)?;
    let entered = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(entered);
    Ok((runtime, listener))
}

async fn accept(listener: tokio::net::TcpListener, target: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((from, _)) => drop(tokio::spawn(pass(from, target))),
            // Out of files, perhaps: some will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A broken connection on one side is a broken connection on the other.
async fn pass(mut from: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut to = TcpStream::connect(target).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}

/// A connection takes two files, and a process may often have no more than 1024. Without the right to more it stays so.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
}
