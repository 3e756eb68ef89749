//! A node as a deserializer.

use serde::{
    Deserializer,
    de::{Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{
    super::value::{Node, Value},
    access::{EntriesDe, ItemsDe, NameDe, VariantDe},
    error::{Error, Kind},
    marks::Marks,
};

/// A node, read with what earlier rounds learned.
#[derive(Clone, Copy)]
pub(super) struct NodeDe<'a, 'de> {
    node: &'de Node,
    marks: &'a Marks,
}

impl<'a, 'de> NodeDe<'a, 'de> {
    pub(super) fn new(node: &'de Node, marks: &'a Marks) -> Self {
        Self { node, marks }
    }

    fn unexpected(&self) -> Unexpected<'de> {
        match &self.node.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(b) => Unexpected::Bool(*b),
            Value::Int(n) => Unexpected::Signed(*n),
            Value::Float(n) => Unexpected::Float(*n),
            Value::Str(text) => Unexpected::Str(text),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    /// The text, if this is one or may be read as one.
    fn text(&self) -> Option<&'de str> {
        match (&self.node.text, &self.node.value) {
            (Some(text), _) => Some(text),
            (None, Value::Str(text)) => Some(text),
            _ => None,
        }
    }

    fn visit_text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn visit_entries<V: Visitor<'de>>(self, visitor: V, expected: &str) -> Result<V::Value, Error> {
        match &self.node.value {
            // A section whose lines are all commented out.
            Value::Map(_) | Value::Null => visitor.visit_map(EntriesDe::new(self.node, self.marks)),
            _ => Err(Error::found(self.unexpected(), expected)),
        }
    }

    fn visit_items<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(ItemsDe::new(items, self.marks)),
            Value::Null => visitor.visit_seq(ItemsDe::new(&[], self.marks)),
            _ => Err(Error::found(self.unexpected(), "a list")),
        }
    }
}

impl<'de> Deserializer<'de> for NodeDe<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(n) => visitor.visit_i64(*n),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(ItemsDe::new(items, self.marks)),
            Value::Map(_) => visitor.visit_map(EntriesDe::new(self.node, self.marks)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_items(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_items(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.visit_items(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_entries(visitor, "a map")
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // Derived types take lists as well, by position. In a file that is a mistake.
        self.visit_entries(visitor, "a map")
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Some(name) = self.text() {
            return visitor.visit_enum(NameDe::new(name));
        }
        let expected = || match variants.len() {
            1..=super::MAX_LISTED => format!("one of {}", variants.join(", ")),
            _ => "a name".to_owned(),
        };
        let Some(map) = self.node.as_map() else {
            return Err(Error::found(self.unexpected(), expected()));
        };
        let mut live = map
            .iter()
            .filter(|entry| !self.marks.is_left_out(&entry.node));
        match (live.next(), live.next()) {
            (Some(entry), None) => visitor.visit_enum(VariantDe::new(entry, self.marks)),
            // If it is empty because something was left out, this is a consequence.
            _ => Err(Error::new(Kind::Custom(format!(
                "expected {}, as the only key",
                expected()
            )))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 unit unit_struct
    }
}
