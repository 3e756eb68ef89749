//! A value for a field that nobody wrote.
//!
//! A fault was recorded before it was made up, so nobody takes it for a setting. It only has to please the
//! type, so that what comes after the missing field is looked at in the same run.

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

use super::error::Error;

/// What a type that reads a text may accept.
const TEXTS: [&str; ATTEMPTS] = ["", "1s", "127.0.0.1:0", "http://localhost/", "/", "1"];

/// How many made-up values there are.
pub(super) const ATTEMPTS: usize = 6;

/// A type may contain itself, so what is made up needs an end.
const MAX_DEPTH: usize = 6;

#[derive(Clone, Copy)]
pub(super) struct StandInDe {
    attempt: usize,
    depth: usize,
}

impl StandInDe {
    pub(super) fn new(attempt: usize) -> Self {
        Self { attempt, depth: 0 }
    }

    fn inner(self) -> Result<Self, Error> {
        if self.depth == MAX_DEPTH {
            return Err(serde::de::Error::custom("made up too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn text(self) -> &'static str {
        TEXTS.get(self.attempt).copied().unwrap_or_default()
    }

    /// After the first value, which is the emptiest there is.
    fn is_retry(self) -> bool {
        self.attempt > 0
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.is_retry().into())
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_str(self.text())
        }
    )*};
}

impl<'de> Deserializer<'de> for StandInDe {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.attempt {
            0 => visitor.visit_unit(),
            3 => visitor.visit_map(Made {
                left: 0,
                fields: [].iter(),
                value: self,
            }),
            4 => visitor.visit_i64(1),
            _ => visitor.visit_str(self.text()),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.is_retry())
    }

    numbers! {
        deserialize_i8 visit_i8, deserialize_i16 visit_i16, deserialize_i32 visit_i32, deserialize_i64 visit_i64,
        deserialize_u8 visit_u8, deserialize_u16 visit_u16, deserialize_u32 visit_u32, deserialize_u64 visit_u64,
        deserialize_f32 visit_f32, deserialize_f64 visit_f64,
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self.inner()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // Empty first, then with one item for the types that want one.
        visitor.visit_seq(Made {
            left: self.is_retry().into(),
            fields: [].iter(),
            value: self.inner()?,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Made {
            left: len,
            fields: [].iter(),
            value: self.inner()?,
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(MapDeserializer::<_, Error>::new(std::iter::empty::<(
            &str,
            &str,
        )>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        // With its defaults first, then with every field.
        let fields = if self.is_retry() { fields } else { &[] };
        visitor.visit_map(Made {
            left: 0,
            fields: fields.iter(),
            value: self.inner()?,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let name = variants
            .get(self.attempt % variants.len().max(1))
            .copied()
            .unwrap_or_default();
        visitor.visit_enum(MadeVariant {
            name,
            value: self.inner()?,
        })
    }

    forward_to_deserialize_any! { i128 u128 bytes byte_buf unit unit_struct ignored_any }
}

/// Items and fields that are all made up.
struct Made {
    left: usize,
    fields: std::slice::Iter<'static, &'static str>,
    value: StandInDe,
}

impl<'de> SeqAccess<'de> for Made {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(self.value).map(Some)
    }
}

impl<'de> MapAccess<'de> for Made {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(field) = self.fields.next() else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(self.value)
    }
}

struct MadeVariant {
    name: &'static str,
    value: StandInDe,
}

impl<'de> EnumAccess<'de> for MadeVariant {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((
            seed.deserialize(StrDeserializer::<Error>::new(self.name))?,
            self,
        ))
    }
}

impl<'de> VariantAccess<'de> for MadeVariant {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_struct("", fields, visitor)
    }
}
