//! Captures as serde reads them.

use std::borrow::Cow;

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::PathError;
use crate::params::Params;

/// All captures.
#[derive(Clone, Copy)]
pub(super) struct Captured<'de>(pub(super) &'de Params);

impl<'de> Captured<'de> {
    fn only(self) -> Result<Value<'de>, PathError> {
        let mut captures = self.0.iter();
        match (captures.next(), captures.next()) {
            (Some(capture), None) => Value::new(capture),
            _ => Err(PathError::misfit(format_args!(
                "the route captures {} values, 1 is wanted",
                self.0.len()
            ))),
        }
    }
}

macro_rules! forward_to_only {
    ($($method:ident)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
            self.only()?.$method(visitor)
        }
    )+};
}

impl<'de> Deserializer<'de> for Captured<'de> {
    type Error = PathError;

    forward_to_only! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char deserialize_str
        deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_seq(Values(self.0.iter(), None))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        if len != self.0.len() {
            return Err(PathError::misfit(format_args!(
                "the route captures {} values, {len} are wanted",
                self.0.len()
            )));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let captures = self.0.iter().enumerate();
        // Of equal names the innermost, which is last.
        let last = captures.filter(move |(index, (name, _))| {
            let mut later = self.0.iter().skip(index + 1);
            !later.any(|(other, _)| other == *name)
        });
        visitor.visit_map(Values(last.map(|(_, capture)| capture), None))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }
}

struct Values<'de, I>(I, Option<Value<'de>>);

impl<'de, I: Iterator<Item = (&'de str, &'de str)>> SeqAccess<'de> for Values<'de, I> {
    type Error = PathError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, PathError> {
        match self.0.next() {
            Some(capture) => seed.deserialize(Value::new(capture)?).map(Some),
            None => Ok(None),
        }
    }
}

impl<'de, I: Iterator<Item = (&'de str, &'de str)>> MapAccess<'de> for Values<'de, I> {
    type Error = PathError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, PathError> {
        let Some(capture) = self.0.next() else {
            return Ok(None);
        };
        self.1 = Some(Value::new(capture)?);
        seed.deserialize(StrDeserializer::new(capture.0)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, PathError> {
        match self.1.take() {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom("a value was asked for before its name")),
        }
    }
}

/// One capture.
struct Value<'de> {
    name: &'de str,
    text: Cow<'de, str>,
}

impl<'de> Value<'de> {
    fn new((name, raw): (&'de str, &'de str)) -> Result<Self, PathError> {
        let text = Params::decoded(name, raw).map_err(PathError::new)?;
        Ok(Self { name, text })
    }
}

macro_rules! parse {
    ($($method:ident $visit:ident $kind:literal)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
            match self.text.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(PathError::new(format_args!(
                    "path parameter `{}` is no {}", self.name, $kind
                ))),
            }
        }
    )+};
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = PathError;

    parse! {
        deserialize_bool visit_bool "bool"
        deserialize_i8 visit_i8 "i8"
        deserialize_i16 visit_i16 "i16"
        deserialize_i32 visit_i32 "i32"
        deserialize_i64 visit_i64 "i64"
        deserialize_i128 visit_i128 "i128"
        deserialize_u8 visit_u8 "u8"
        deserialize_u16 visit_u16 "u16"
        deserialize_u32 visit_u32 "u32"
        deserialize_u64 visit_u64 "u64"
        deserialize_u128 visit_u128 "u128"
        deserialize_f32 visit_f32 "f32"
        deserialize_f64 visit_f64 "f64"
        deserialize_char visit_char "char"
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let refused = |error: PathError| error.of(self.name);
        match self.text {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
        .map_err(refused)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_newtype_struct(self)
    }

    /// A name and a value.
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        if len != 2 {
            return Err(PathError::misfit(format_args!(
                "path parameter `{}` is no tuple of {len}",
                self.name
            )));
        }
        visitor.visit_seq(de::value::SeqDeserializer::new(
            [Cow::Borrowed(self.name), self.text].into_iter(),
        ))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        str string bytes byte_buf unit unit_struct seq tuple_struct map struct identifier
        ignored_any
    }
}

impl<'de> EnumAccess<'de> for Value<'de> {
    type Error = PathError;
    type Variant = Unit;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Unit), PathError> {
        seed.deserialize(self).map(|variant| (variant, Unit))
    }
}

/// A variant without anything in it.
struct Unit;

impl Unit {
    fn refused<T>() -> Result<T, PathError> {
        Err(PathError::misfit(
            "a path parameter can only be a variant without fields",
        ))
    }
}

impl<'de> VariantAccess<'de> for Unit {
    type Error = PathError;

    fn unit_variant(self) -> Result<(), PathError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, PathError> {
        Self::refused()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, PathError> {
        Self::refused()
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, PathError> {
        Self::refused()
    }
}
