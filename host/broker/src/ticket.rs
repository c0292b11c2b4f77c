//! Stream tickets: for an `EventSource`, which cannot send a header. One opens one stream of one path, once, soon.
//!
//! They are this node's memory: a restart forgets them, and a page asks for another. Each names its node, so that any other
//! knows whom to ask.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_model::{NodeId, Timestamp, limits};

use crate::access::Action;
use crate::call::WirePrincipal;
use crate::nodes::{NodeAnswer, NodeRequest};
use crate::{Broker, Call, Error, Principal};

/// How long another node may take to say whose ticket it is.
const ASK: Duration = Duration::from_millis(limits::NODE_STATUS_MS_MAX);

/// Tickets that are out, by their text.
#[derive(Default)]
pub(crate) struct Tickets(Mutex<HashMap<String, Ticket>>);

struct Ticket {
    principal: Principal,
    path: String,
    expires_at: Timestamp,
}

impl Broker {
    /// Makes a ticket for a stream of the tenant: its text, and when it expires. `action` is what the stream will do.
    ///
    /// # Errors
    /// The caller may not open that stream; too many tickets are out.
    pub async fn create_ticket(
        &self,
        call: &Call,
        tenant: &str,
        path: &str,
        action: Action<'_>,
    ) -> Result<(String, Timestamp), Error> {
        self.authorize(call, tenant, action)?;
        let now = self.inner.clock.wall();
        let expires_at = now.plus_ms(limits::TICKET_MS);
        let text = format!("{}-{:032x}", self.inner.config.node, rand::random::<u128>());
        let mut tickets = self.inner.tickets.0.lock();
        if tickets.len() >= limits::TICKETS_MAX {
            tickets.retain(|_, ticket| ticket.expires_at > now);
        }
        if tickets.len() >= limits::TICKETS_MAX {
            return Err(Error::RateExceeded {
                detail: format!("at most {} stream tickets are out at once", limits::TICKETS_MAX),
                retry_after_ms: limits::TICKET_MS,
            });
        }
        let ticket = Ticket { principal: call.principal.clone(), path: path.into(), expires_at };
        tickets.insert(text.clone(), ticket);
        Ok((text, expires_at))
    }

    /// Takes a ticket for a path: who it was made for. It is gone afterwards, also if it was for another path.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], or that the token it was made with is not good any more.
    pub async fn redeem_ticket(&self, ticket: &str, path: &str) -> Result<Principal, Error> {
        let own = self.inner.config.node;
        let maker = maker(ticket).filter(|maker| *maker == own || self.others().contains(maker));
        let principal = match maker {
            Some(maker) if maker == own => self.take_ticket(ticket, path),
            Some(maker) => {
                let request = NodeRequest::Redeem(ticket.to_owned(), path.to_owned());
                match self.ask(maker, &request, ASK).await {
                    Ok(NodeAnswer::Redeemed(principal)) => principal.and_then(WirePrincipal::read),
                    Ok(_) => None,
                    // It may be good; the page asks for another.
                    Err(_) => return Err(Error::NoLeader),
                }
            }
            None => None,
        };
        let found = principal.ok_or_else(|| Error::Unauthenticated("the ticket is not known for this path".into()))?;
        self.meet(&found, None).await?;
        self.check_principal(&found)?;
        Ok(found)
    }

    /// Takes a ticket that this node made.
    pub(crate) fn take_ticket(&self, ticket: &str, path: &str) -> Option<Principal> {
        let found = self.inner.tickets.0.lock().remove(ticket)?;
        (found.path == path && found.expires_at > self.inner.clock.wall()).then_some(found.principal)
    }
}

/// The node that made a ticket.
fn maker(ticket: &str) -> Option<NodeId> {
    let (node, _) = ticket.split_once('-').filter(|_| ticket.len() <= limits::TICKET_BYTES_MAX)?;
    node.parse().ok().map(NodeId)
}
