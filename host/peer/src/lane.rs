//! The three connections from one node to another.

use pointsman_model::limits;

use crate::handler::Service;

/// Which of the three connections; each has its own so that none waits behind another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Replication streams.
    Append,
    /// Small and urgent calls.
    Control,
    /// Large calls, calls for the node, forwarded requests.
    Bulk,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Append, Self::Control, Self::Bulk];

    /// Its number in the hello, and its place in arrays.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The lane of a kind of call.
    pub(crate) fn of(service: Service) -> Self {
        match service {
            Service::Control => Self::Control,
            Service::Node | Service::Bulk => Self::Bulk,
        }
    }

    /// Longest body of a frame.
    pub(crate) fn length_max(self) -> usize {
        match self {
            Self::Control => limits::PEER_CONTROL_BYTES_MAX,
            Self::Append | Self::Bulk => limits::PEER_FRAME_BYTES_MAX,
        }
    }

    /// How much is read at a time: a body pins as much, so that the connections of small frames read little.
    pub(crate) fn chunk_bytes(self) -> usize {
        match self {
            Self::Append => 256 << 10,
            Self::Control => 16 << 10,
            Self::Bulk => 128 << 10,
        }
    }

    /// Its name in logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}
