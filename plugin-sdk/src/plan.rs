//! What a plugin wants to see of a message.

/// A part of a message. See `wit/types.wit` for what each holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Name of the topic.
    Topic,
    /// The tag.
    Tag,
    /// All keys.
    Keys,
    /// The ordering key.
    OrderingKey,
    /// The property of that name.
    Property(String),
    /// The payload.
    Body,
    /// A fingerprint of the payload.
    BodyHash,
    /// When the producer's call arrived.
    BornAt,
    /// When the message was stored.
    StoredAt,
    /// The time that the decision may rely on.
    Now,
    /// Eight pseudo-random bytes of the message.
    Seed,
    /// The priority.
    Priority,
}

/// The fields a plugin wants, and its hints. Ask for little: every field is a column the broker copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(crate) fields: Vec<Field>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) destinations: Vec<String>,
}

macro_rules! wants {
    ($($(#[$doc:meta])* $name:ident => $field:ident;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(self) -> Self {
            self.field(Field::$field)
        })*
    };
}

impl Plan {
    /// A plan that wants nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants `field`; asking twice is asking once.
    #[must_use]
    pub fn field(mut self, field: Field) -> Self {
        if !self.fields.contains(&field) {
            self.fields.push(field);
        }
        self
    }

    /// Wants the property of that name.
    #[must_use]
    pub fn property(self, name: &str) -> Self {
        self.field(Field::Property(name.to_owned()))
    }

    wants! {
        /// Wants the name of the topic.
        topic => Topic;
        /// Wants the tag.
        tag => Tag;
        /// Wants the keys.
        keys => Keys;
        /// Wants the ordering key.
        ordering_key => OrderingKey;
        /// Wants the payload. This is the one dear field.
        body => Body;
        /// Wants the payload's fingerprint.
        body_hash => BodyHash;
        /// Wants the time the producer's call arrived.
        born_at => BornAt;
        /// Wants the time the message was stored.
        stored_at => StoredAt;
        /// Wants the time that the decision may rely on.
        now => Now;
        /// Wants the message's pseudo-random bytes.
        seed => Seed;
        /// Wants the priority.
        priority => Priority;
    }

    /// A filter's promise that no message without one of these tags passes, so the broker may skip the rest
    /// without asking. The broker audits it.
    #[must_use]
    pub fn only_tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// A selector's other topic. The first one added is destination 1 of [`crate::Route::to`].
    #[must_use]
    pub fn destination(mut self, topic: impl Into<String>) -> Self {
        self.destinations.push(topic.into());
        self
    }
}
