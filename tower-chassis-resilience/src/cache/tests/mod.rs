mod calls;
mod memo;
