//! One connection after its hello: reads, writes and listens for silence, all in one task.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pointsman_model::limits;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::MissedTickBehavior;

use crate::frame::read::FrameReader;
use crate::frame::write::{Outgoing, Unwritten};
use crate::frame::{Broken, Frame, Head, Kind};
use crate::outbox::Outbox;
use crate::pace::Pace;
use crate::tally::Tally;

/// The half that is read.
pub(crate) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The half that is written.
pub(crate) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// Both halves of a connection whose hellos were exchanged.
pub(crate) struct Wire {
    pub(crate) reader: FrameReader<ReadHalf>,
    pub(crate) writer: WriteHalf,
}

/// What one side does with the frames that arrive.
pub(crate) trait Receive: Send + Sync {
    /// Takes a frame; never waits.
    ///
    /// # Errors
    /// The frame breaks the rules: the connection is closed.
    fn receive(&self, frame: Frame) -> Result<(), Broken>;
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    #[error("this side closed it")]
    Stopped,
    #[error("the other side closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other side fell silent")]
    Silent,
    #[error("{0}")]
    Garbage(#[from] Broken),
}

/// Runs a connection to its end. Then its outbox takes no more frames.
///
/// With `pings` this side asks for signs of life; both sides expect them.
pub(crate) async fn run(
    wire: Wire,
    outbox: &Arc<Outbox>,
    receiver: &dyn Receive,
    pings: bool,
    pace: &Pace,
    tally: &Tally,
) -> Ending {
    let Wire { mut reader, mut writer } = wire;
    let pulse = Pulse::default();
    let ending = tokio::select! {
        ending = read(&mut reader, receiver, &pulse, tally) => ending,
        ending = write(&mut writer, outbox, &pulse, tally) => ending,
        () = listen(outbox, &pulse, pings, pace) => Ending::Silent,
        () = linger(outbox) => Ending::Stopped,
    };
    outbox.abandon();
    ending
}

/// Signs of life of a connection.
#[derive(Default)]
struct Pulse {
    received: AtomicU64,
    written: AtomicU64,
    writing: AtomicBool,
}

async fn read(reader: &mut FrameReader<ReadHalf>, receiver: &dyn Receive, pulse: &Pulse, tally: &Tally) -> Ending {
    loop {
        let mut frames = 0;
        let outcome = loop {
            match reader.ready() {
                Ok(Some(frame)) => {
                    frames += 1;
                    if let Err(broken) = receiver.receive(frame) {
                        break Err(broken);
                    }
                }
                Ok(None) => break Ok(()),
                Err(broken) => break Err(broken),
            }
        };
        tally.received_frames.fetch_add(frames, Ordering::Relaxed);
        if let Err(broken) = outcome {
            return broken.into();
        }
        match reader.fill().await {
            Ok(0) => return Ending::Closed,
            Ok(bytes) => {
                pulse.received.fetch_add(bytes as u64, Ordering::Relaxed);
                tally.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => return error.into(),
        }
    }
}

/// Writes what is queued, as much as there is in one go, until the outbox is closed and empty.
async fn write(writer: &mut WriteHalf, outbox: &Outbox, pulse: &Pulse, tally: &Tally) -> Ending {
    let mut batch = Vec::new();
    let mut unwritten = Unwritten::default();
    while outbox.take(&mut batch).await {
        tally.sent_frames.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for frame in batch.drain(..) {
            unwritten.push(&frame);
        }
        unwritten.seal();
        pulse.writing.store(true, Ordering::Relaxed);
        while !unwritten.is_empty() {
            match unwritten.write_some(&mut *writer).await {
                Ok(bytes) => {
                    pulse.written.fetch_add(bytes as u64, Ordering::Relaxed);
                    tally.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                }
                Err(error) => return error.into(),
            }
        }
        if let Err(error) = writer.flush().await {
            return error.into();
        }
        pulse.writing.store(false, Ordering::Relaxed);
    }
    // The other side reads what was sent, then the end, and closes. Closing first could take back what it has not read.
    match writer.shutdown().await {
        Ok(()) => std::future::pending().await,
        Err(error) => error.into(),
    }
}

/// Ends when nothing has arrived for too long, or a write does not get on.
///
/// Counts ticks, not time: a process that was itself stopped for a while has not heard the others, and may not blame them.
async fn listen(outbox: &Outbox, pulse: &Pulse, pings: bool, pace: &Pace) {
    let mut ticks = tokio::time::interval(pace.ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut received, mut written) = (0, 0);
    let (mut deaf, mut stuck) = (0, 0);
    loop {
        ticks.tick().await;
        let (received_now, written_now) =
            (pulse.received.load(Ordering::Relaxed), pulse.written.load(Ordering::Relaxed));
        deaf = if received_now == received { deaf + 1 } else { 0 };
        stuck = if pulse.writing.load(Ordering::Relaxed) && written_now == written { stuck + 1 } else { 0 };
        (received, written) = (received_now, written_now);
        if deaf > pace.silence_ticks || stuck > pace.silence_ticks {
            return;
        }
        if pings {
            outbox.push(Outgoing::bare(Head::new(Kind::Ping, 0).at(outbox.clock_us())));
        }
    }
}

/// Ends some time after the connection was told to stop: until then what is queued may leave.
async fn linger(outbox: &Outbox) {
    outbox.stop.cancelled().await;
    outbox.close();
    tokio::time::sleep(Duration::from_millis(limits::PEER_LINGER_MS)).await;
}
