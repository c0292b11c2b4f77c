//! Whether this node may start, as a pure function of what it is and of what the others say.
//!
//! A cluster is formed once: the lowest node, when all have said hello and none has a cluster, gives all of them the same
//! uuid, each fsyncs its `identity`, and only then does the lowest make all of them the voters of every shard. A crash
//! at any point leaves *half-formed* nodes: an identity, and shards without a membership. The lowest goes on from there,
//! with the uuid that one of them has. A node whose directory is gone never takes part as if nothing had happened: it may
//! have voted. `DESIGN` §7, Identity.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_model::NodeId;

use super::note::Note;

/// A cluster's uuid.
pub(crate) type Uuid = [u8; 16];

/// What a node is, as its hello says or its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The cluster that its `identity` names; `None` for an empty directory.
    pub(crate) cluster: Option<Uuid>,
    /// Which life of the node.
    pub(crate) incarnation: u32,
    /// The rest.
    pub(crate) note: Note,
}

/// What this node knows of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// What it said last.
    pub(crate) standing: Option<Standing>,
    /// It can be asked something now.
    pub(crate) connected: bool,
    /// Why there is no connection with it.
    pub(crate) refusal: Option<String>,
    /// One of the two said so by its own rules; else it may pass by itself.
    pub(crate) in_words: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for these nodes to be connected.
    WaitFor(Vec<NodeId>),
    /// All are here: wait until the lowest one forms the cluster.
    WaitForLowest(NodeId),
    /// Form the cluster, under this uuid if one is given out already.
    Form(Option<Uuid>),
    /// Ask these nodes for the next life of this one.
    AskForLife(Vec<NodeId>),
    /// Open the shards; a leader takes it from there.
    Open,
    /// End, and say why.
    Refuse(Refusal),
}

/// Why a node does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "this node's directory is empty but the cluster of node {by} knows node {own}; start it with --replace if its data is lost for good, or with the directory that it had"
    )]
    Wiped { own: NodeId, by: NodeId },
    #[error(
        "node {by} is in a cluster that does not have node {own}; start this node with the --peers of its own cluster"
    )]
    NotAMember { own: NodeId, by: NodeId },
    #[error("the nodes {0} and {1} are in different clusters; look at --peers")]
    TwoClusters(NodeId, NodeId),
    #[error("this node's directory is of another cluster than {}; start it with the directory that belongs to them, or with the --peers of its own cluster", many(.0))]
    Foreign(Vec<NodeId>),
    #[error(
        "node {own} was replaced: node {by} knows it in its life {known}, and this directory is of its life {here}; remove the directory, or start the node that took its place"
    )]
    Replaced { own: NodeId, by: NodeId, known: u32, here: u32 },
    #[error("--peers lists {} here and {} on node {by}; the list is the same on every node", many(.here), many(.there))]
    Lists { by: NodeId, here: Vec<NodeId>, there: Vec<NodeId> },
    #[error("{setting} is {here} here and {there} on node {by}; set it the same on every node")]
    Setting { setting: &'static str, here: u64, there: u64, by: NodeId },
    #[error(
        "this node's directory has an identity and no shards, but the cluster of node {by} is formed; empty the directory and start with --replace"
    )]
    Incomplete { by: NodeId },
    #[error("--replace: no node is in a cluster yet; start without it")]
    NothingToReplace,
    #[error(
        "--replace is for an empty directory, and this one has an identity; start without it, or empty the directory first"
    )]
    ReplaceNotEmpty,
    #[error("refused by {}: {reason}; look at --peers and --data-dir", many(.by))]
    Refused { by: Vec<NodeId>, reason: String },
}

fn many(nodes: &[NodeId]) -> String {
    match nodes {
        [one] => format!("node {one}"),
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(ToString::to_string).collect();
            format!("nodes {} and {last}", most.join(", "))
        }
        [] => "no nodes".to_owned(),
    }
}

/// What a node that is `own`, and hears `others`, does next. `others` are all other nodes of `--peers`.
pub(crate) fn next(node: NodeId, own: &Standing, others: &BTreeMap<NodeId, Heard>, replace: bool) -> Step {
    match check(node, own, others) {
        Ok(()) => {}
        Err(refusal) => return Step::Refuse(refusal),
    }
    if own.cluster.is_some() && (own.note.formed || own.incarnation > 0) {
        return Step::Open;
    }
    let standings = || others.iter().filter_map(|(id, heard)| Some((*id, heard.standing.as_ref()?)));
    let formed = || standings().filter(|(_, standing)| standing.note.formed);
    if own.cluster.is_none()
        && let Some((by, standing)) = formed().max_by_key(|(_, standing)| standing.note.knows.len())
    {
        if standing.note.knows.is_empty() {
            // It has not applied its membership again since its start.
            return Step::WaitFor(vec![by]);
        }
        let known = standing.note.incarnation_of(node).is_some();
        return match (known, replace) {
            (true, true) => ask_for_life(others),
            (true, false) => Step::Refuse(Refusal::Wiped { own: node, by }),
            (false, _) => Step::Refuse(Refusal::NotAMember { own: node, by }),
        };
    }
    let absent: Vec<_> = others.iter().filter(|(_, heard)| !heard.here()).map(|(id, _)| *id).collect();
    if replace {
        let none = absent.is_empty();
        return if none { Step::Refuse(Refusal::NothingToReplace) } else { Step::WaitFor(absent) };
    }
    let lowest = others.keys().copied().chain([node]).min().unwrap_or(node);
    if node != lowest {
        return match own.cluster {
            // The lowest one goes on by itself, whether it has begun with the shards or not.
            Some(_) => Step::Open,
            None if absent.is_empty() => Step::WaitForLowest(lowest),
            None => Step::WaitFor(absent),
        };
    }
    if let Some((by, _)) = formed().next() {
        // Its shards got their membership from this node's, which are gone.
        return Step::Refuse(Refusal::Incomplete { by });
    }
    if !absent.is_empty() {
        return Step::WaitFor(absent);
    }
    Step::Form(own.cluster.or_else(|| standings().find_map(|(_, standing)| standing.cluster)))
}

impl Heard {
    /// It has said what it is and can be asked something.
    fn here(&self) -> bool {
        self.connected && self.standing.is_some()
    }
}

/// Nodes of the cluster that may give out the next life, the likeliest first.
fn ask_for_life(others: &BTreeMap<NodeId, Heard>) -> Step {
    let formed = others.iter().filter(|(_, heard)| heard.standing.as_ref().is_some_and(|it| it.note.formed));
    Step::AskForLife(formed.filter(|(_, heard)| heard.connected).map(|(id, _)| *id).collect())
}

/// What refuses the start of this node, whatever it would do next. Also asked while a formed node runs, until it has
/// met a node of its own cluster.
pub(crate) fn check(node: NodeId, own: &Standing, others: &BTreeMap<NodeId, Heard>) -> Result<(), Refusal> {
    let standings: Vec<_> = others.iter().filter_map(|(id, heard)| Some((*id, heard.standing.as_ref()?))).collect();
    let clusters: Vec<_> = standings.iter().filter_map(|(id, standing)| Some((*id, standing.cluster?))).collect();
    // One stranger must not keep a node from its cluster; all that there are, or more than half of the list, may.
    let too_many = |count: usize| count > 0 && (count == others.len() || count * 2 > others.len() + 1);
    match own.cluster {
        Some(cluster) => {
            let foreign: Vec<_> = clusters.iter().filter(|(_, of)| *of != cluster).map(|(id, _)| *id).collect();
            if too_many(foreign.len()) {
                return Err(Refusal::Foreign(foreign));
            }
            let fellows = standings.iter().filter(|(_, standing)| standing.cluster == Some(cluster));
            for (by, standing) in fellows {
                match standing.note.incarnation_of(node) {
                    Some(known) if known > own.incarnation => {
                        return Err(Refusal::Replaced { own: node, by: *by, known, here: own.incarnation });
                    }
                    _ => {}
                }
            }
        }
        None => {
            if let [(first, cluster), rest @ ..] = &*clusters
                && let Some((other, _)) = rest.iter().find(|(_, of)| of != cluster)
            {
                return Err(Refusal::TwoClusters(*first, *other));
            }
        }
    }
    // What an empty directory means to a formed cluster comes before how it is set.
    let compared = |other: &Standing| !own.note.formed && (own.cluster.is_some() || !other.note.formed);
    for (by, standing) in standings.iter().filter(|(_, standing)| compared(standing)) {
        agree(*by, own, standing)?;
    }
    let refusing: Vec<_> = others.iter().filter(|(_, heard)| heard.in_words).map(|(id, _)| *id).collect();
    let reason = others.values().filter(|heard| heard.in_words).find_map(|heard| heard.refusal.clone());
    match reason {
        Some(reason) if too_many(refusing.len()) => Err(Refusal::Refused { by: refusing, reason }),
        _ => Ok(()),
    }
}

/// What the nodes of a cluster have in common.
fn agree(by: NodeId, own: &Standing, other: &Standing) -> Result<(), Refusal> {
    if other.cluster.is_some() && own.cluster.is_some() && other.cluster != own.cluster {
        return Ok(());
    }
    let setting = |setting, here: u64, there: u64| match here == there {
        true => Ok(()),
        false => Err(Refusal::Setting { setting, here, there, by }),
    };
    let nodes = |note: &Note| note.lists.iter().copied().collect::<BTreeSet<_>>();
    let (here, there) = (nodes(&own.note), nodes(&other.note));
    if here != there {
        let list = |nodes: BTreeSet<u32>| nodes.into_iter().map(NodeId).collect();
        return Err(Refusal::Lists { by, here: list(here), there: list(there) });
    }
    setting("segment_bytes", own.note.segment_bytes, other.note.segment_bytes)?;
    // Of a formed cluster the directories say how many there are.
    if other.note.formed {
        return Ok(());
    }
    setting("data_shards", own.note.data_shards.into(), other.note.data_shards.into())
}

#[cfg(test)]
mod tests;
