mod ends;
mod hammer;
mod keyed;
mod model;
mod service;
mod waiting;
