//! The entries of a map, the items of a list, the variant of an enum.

use std::{slice, sync::Arc};

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
        Visitor, value::BorrowedStrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    super::{
        path::Step,
        scalar,
        value::{Entry, Node, Origin, Source, Value},
    },
    error::Error,
    marks::{Marks, StandIn},
    node::NodeDe,
    stand_in::StandInDe,
};

/// What stands behind a variant that is a mere name.
static NOTHING: Node = Node {
    value: Value::Null,
    origin: Origin {
        source: Source::Default,
        line: None,
        column: None,
    },
    text: None,
};

/// The entries that are not left out, then the stand-ins.
pub(super) struct EntriesDe<'a, 'de> {
    entries: slice::Iter<'de, Entry>,
    stand_ins: slice::Iter<'a, StandIn>,
    next: Option<Next<'de>>,
    marks: &'a Marks,
}

enum Next<'de> {
    Entry(&'de Entry),
    StandIn(StandIn),
}

impl<'a, 'de> EntriesDe<'a, 'de> {
    /// The entries of a map; whatever else it is has none.
    pub(super) fn new(node: &'de Node, marks: &'a Marks) -> Self {
        let entries = node.as_map().map_or_else(|| [].iter(), |map| map.iter());
        Self {
            entries,
            stand_ins: marks.stand_ins(node).iter(),
            next: None,
            marks,
        }
    }
}

impl<'de> MapAccess<'de> for EntriesDe<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let marks = self.marks;
        if let Some(entry) = self.entries.find(|entry| !marks.is_left_out(&entry.node)) {
            self.next = Some(Next::Entry(entry));
            let key = seed.deserialize(KeyDe(&entry.key));
            return key
                .map(Some)
                .map_err(|error| error.at_key(Step::Key(Arc::clone(&entry.key))));
        }
        let Some(&stand_in) = self.stand_ins.next() else {
            return Ok(None);
        };
        self.next = Some(Next::StandIn(stand_in));
        let key = seed.deserialize(KeyDe(stand_in.field));
        key.map(Some)
            .map_err(|error| error.in_stand_in(Step::Key(stand_in.field.into())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.next.take() {
            Some(Next::Entry(entry)) => seed
                .deserialize(NodeDe::new(&entry.node, self.marks))
                .map_err(|error| error.below(Step::Key(Arc::clone(&entry.key)))),
            Some(Next::StandIn(StandIn { field, attempt })) => seed
                .deserialize(StandInDe::new(attempt))
                .map_err(|error| error.in_stand_in(Step::Key(field.into()))),
            None => Err(serde::de::Error::custom(
                "a value was asked for before its key",
            )),
        }
    }
}

/// The items that are not left out. The others keep their numbers.
pub(super) struct ItemsDe<'a, 'de> {
    items: std::iter::Enumerate<slice::Iter<'de, Node>>,
    marks: &'a Marks,
}

impl<'a, 'de> ItemsDe<'a, 'de> {
    pub(super) fn new(items: &'de [Node], marks: &'a Marks) -> Self {
        Self {
            items: items.iter().enumerate(),
            marks,
        }
    }
}

impl<'de> SeqAccess<'de> for ItemsDe<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let marks = self.marks;
        let Some((n, item)) = self.items.find(|(_, item)| !marks.is_left_out(item)) else {
            return Ok(None);
        };
        seed.deserialize(NodeDe::new(item, marks))
            .map(Some)
            .map_err(|error| error.below(Step::Index(n)))
    }
}

/// A key: text, and a number or a boolean for whoever wants one.
struct KeyDe<'de>(&'de str);

impl<'de> Deserializer<'de> for KeyDe<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // A borrowed one would end up borrowed from a stand-in.
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match scalar::resolve(self.0) {
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Int(n) => visitor.visit_i64(n),
            Value::Float(n) => visitor.visit_f64(n),
            _ => visitor.visit_str(self.0),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A variant that is a mere name. One with fields gets none of them, so that its defaults hold.
pub(super) struct NameDe<'de>(&'de str);

impl<'de> NameDe<'de> {
    pub(super) fn new(name: &'de str) -> Self {
        Self(name)
    }
}

/// A variant that is the only key of a map.
pub(super) struct VariantDe<'a, 'de> {
    entry: &'de Entry,
    marks: &'a Marks,
}

impl<'a, 'de> VariantDe<'a, 'de> {
    pub(super) fn new(entry: &'de Entry, marks: &'a Marks) -> Self {
        Self { entry, marks }
    }
}

impl<'de> EnumAccess<'de> for NameDe<'de> {
    type Error = Error;
    type Variant = ContentDe<'static, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.0))?;
        Ok((
            name,
            ContentDe {
                node: &NOTHING,
                behind: None,
            },
        ))
    }
}

impl<'a, 'de> EnumAccess<'de> for VariantDe<'a, 'de> {
    type Error = Error;
    type Variant = ContentDe<'a, 'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Error>::new(&self.entry.key))?;
        Ok((
            name,
            ContentDe {
                node: &self.entry.node,
                behind: Some((&self.entry.key, self.marks)),
            },
        ))
    }
}

/// What stands behind the name of a variant.
pub(super) struct ContentDe<'a, 'de> {
    node: &'de Node,
    behind: Option<(&'de Arc<str>, &'a Marks)>,
}

impl<'de> ContentDe<'_, 'de> {
    fn read<T>(self, read: impl FnOnce(NodeDe<'_, 'de>) -> Result<T, Error>) -> Result<T, Error> {
        match self.behind {
            None => read(NodeDe::new(self.node, &Marks::default())),
            Some((key, marks)) => read(NodeDe::new(self.node, marks))
                .map_err(|error| error.below(Step::Key(Arc::clone(key)))),
        }
    }
}

impl<'de> VariantAccess<'de> for ContentDe<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.read(|content| serde::Deserialize::deserialize(content))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.read(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.read(|content| content.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.read(|content| content.deserialize_struct("", fields, visitor))
    }
}
