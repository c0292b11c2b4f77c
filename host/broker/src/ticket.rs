//! Stream tickets: for an `EventSource`, which cannot send a header. One opens one stream of one path, once, soon.
//!
//! They are this node's memory: a restart forgets them, and a page asks for another.

use std::collections::HashMap;

use parking_lot::Mutex;
use pointsman_model::{Timestamp, limits};

use crate::access::Action;
use crate::{Broker, Call, Error, Principal};

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
        let text = format!("{:032x}", rand::random::<u128>());
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
    pub fn redeem_ticket(&self, ticket: &str, path: &str) -> Result<Principal, Error> {
        let found = self.inner.tickets.0.lock().remove(ticket);
        let now = self.inner.clock.wall();
        let found = found.filter(|found| found.path == path && found.expires_at > now);
        let found = found.ok_or_else(|| Error::Unauthenticated("the ticket is not known for this path".into()))?;
        self.check_principal(&found.principal)?;
        Ok(found.principal)
    }
}
