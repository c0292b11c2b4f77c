//! Forming the cluster, or finding the way back into it: what [`super::formation`] says is done here.

use std::time::Duration;

use pointsman_model::NodeId;
use pointsman_storage::identity::Identity;
use tokio::time::{Instant, timeout};

use super::ask::{Ask, NextLife};
use super::formation::{Refusal, Step, check, next};
use super::front::Front;

/// How often someone who waits says for whom.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// How long nothing may change before it is looked again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a node may take to fsync its identity, or to give out a life.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// How a node begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    /// Whose directory it is now.
    pub(crate) identity: Identity,
    /// This node gives all shards their first membership.
    pub(crate) initialise: bool,
    /// How many data shards there are, where the cluster said so.
    pub(crate) data_shards: Option<u16>,
}

/// Why a node does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Storage(#[from] pointsman_storage::Error),
}

/// Waits until this node may open its shards, and forms the cluster if that is its task.
pub(crate) async fn form(front: &Front) -> Result<Begin, Error> {
    let own = front.list().own;
    let (mut identity, mut changed) = (front.identity(), front.links().peers().map(|peers| peers.changed()));
    let mut said = None;
    loop {
        identity.borrow_and_update();
        changed.as_mut().map(|changed| changed.borrow_and_update());
        let (standing, heard) = (front.standing(), front.heard());
        let waits = match next(own, &standing, &heard, front.replace()) {
            Step::Refuse(refusal) => return Err(refusal.into()),
            Step::Open => {
                let identity = *identity.borrow();
                // `Open` is for a node that has one.
                if let Some(identity) = identity {
                    return Ok(Begin { identity, initialise: false, data_shards: None });
                }
                "for its identity".to_owned()
            }
            Step::Form(cluster) => {
                let cluster = cluster.unwrap_or_else(rand::random);
                match give_out(front, cluster).await {
                    Ok(()) => {
                        let identity = front.claim(cluster, 0).await?;
                        tracing::info!(nodes = heard.len() + 1, "the cluster is formed");
                        return Ok(Begin { identity, initialise: true, data_shards: None });
                    }
                    Err(reason) => reason,
                }
            }
            Step::AskForLife(nodes) => match ask_for_life(front, &nodes).await {
                Ok(life) => {
                    let segment_bytes = standing.note.segment_bytes;
                    if life.segment_bytes != segment_bytes {
                        let (here, there) = (segment_bytes, life.segment_bytes);
                        let by = nodes.first().copied().unwrap_or(own);
                        return Err(Refusal::Setting { setting: "segment_bytes", here, there, by }.into());
                    }
                    let identity = front.claim(life.cluster, life.incarnation).await?;
                    tracing::info!(node.incarnation = life.incarnation, "this node takes its place");
                    return Ok(Begin { identity, initialise: false, data_shards: Some(life.data_shards) });
                }
                Err(reason) => format!("for its next life: {reason}"),
            },
            Step::WaitFor(nodes) => {
                let reason = |id: &NodeId| match heard.get(id).and_then(|heard| heard.refusal.as_ref()) {
                    Some(refusal) => format!("node {id} ({refusal})"),
                    None => format!("node {id}"),
                };
                format!("for {}", nodes.iter().map(reason).collect::<Vec<_>>().join(", "))
            }
            Step::WaitForLowest(lowest) => format!("for node {lowest} to form the cluster"),
        };
        let now = Instant::now();
        if said.is_none_or(|said| now - said >= SAY_EVERY) {
            // The first look comes before anyone could be connected.
            if said.is_some() {
                tracing::info!("waiting {waits}");
            }
            said = Some(now);
        }
        let news = async {
            match &mut changed {
                Some(changed) => tokio::select! { _ = identity.changed() => {} _ = changed.changed() => {} },
                None => drop(identity.changed().await),
            }
        };
        // Nothing new is a reason to look again, too.
        let _ = timeout(LOOK_EVERY, news).await;
    }
}

/// Asks every other node to be of the cluster; each answers once its identity is on disk.
async fn give_out(front: &Front, cluster: [u8; 16]) -> Result<(), String> {
    let ask = Ask::Form(front.proposal(cluster));
    let answers = front.list().others().map(|(id, _)| {
        let ask = &ask;
        async move {
            let answer = front.links().ask(id, ask, ASK_WITHIN).await;
            answer.map(drop).map_err(|error| format!("for node {id}: {error}"))
        }
    });
    futures_util::future::try_join_all(answers).await.map(drop)
}

/// Asks the nodes of the cluster, one after another, for the next life of this one.
async fn ask_for_life(front: &Front, nodes: &[NodeId]) -> Result<NextLife, String> {
    let ask = Ask::Replace { node: front.list().own.0, passed_on: false };
    let mut reason = "no node of the cluster is connected".to_owned();
    for node in nodes {
        match front.links().ask(*node, &ask, ASK_WITHIN).await {
            Ok(answer) => {
                return NextLife::decode(&answer).ok_or_else(|| format!("node {node} answered something else"));
            }
            Err(error) => reason = format!("node {node}: {error}"),
        }
    }
    Err(reason)
}

/// Watches whom a node with an identity meets first: returns the refusal if that is another cluster, or one in which it
/// was replaced. Never returns once it has met a node of its own cluster.
pub(crate) async fn first_contact(front: Front) -> Refusal {
    let own = front.list().own;
    let mut changed = front.links().peers().map(|peers| peers.changed());
    loop {
        changed.as_mut().map(|changed| changed.borrow_and_update());
        let (standing, heard) = (front.standing(), front.heard());
        if let Err(refusal) = check(own, &standing, &heard) {
            return refusal;
        }
        let fellow = |standing: &super::formation::Standing| standing.cluster == front.standing().cluster;
        if heard.values().any(|heard| heard.connected && heard.standing.as_ref().is_some_and(fellow)) {
            return std::future::pending().await;
        }
        let news = match &mut changed {
            Some(changed) => changed.changed().await.is_ok(),
            None => false,
        };
        if !news {
            return std::future::pending().await;
        }
    }
}
