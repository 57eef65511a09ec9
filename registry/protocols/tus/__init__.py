"""The tus door: resumable uploads at ``/uploads``, protocol 1.0.0.

Specification: https://tus.io/protocols/resumable-upload (1.0.0, 2016-03-25).

Covered: the core protocol (HEAD, PATCH, OPTIONS, ``X-HTTP-Method-Override``) and the extensions
creation, creation-with-upload, creation-defer-length, checksum, expiration, termination.

Absent on purpose:

- *concatenation*: parts would have to be stored, hashed and read again; ``Upload-Concat`` is
  refused instead of being taken for an ordinary upload.
- *checksum-trailer*: our HTTP parser drops trailers, and a check that silently does not happen is
  worse than none; an announced trailer is refused.
- *GET of an upload*: bytes are read as a blob, under their digest.
- *skipping bytes that are already stored*: a creation never answers that everything is there.
  tuspy 1.1 does not look at ``Upload-Offset`` in the answer to a POST and goes on with a PATCH at
  0, which would fail with 409. Clients that know the digest ask ``/api/v1/blobs/missing`` or HEAD
  ``/blobs/{digest}`` first.

Their words and ours:

=====================  =========================================================================
tus                    Digestry
=====================  =========================================================================
upload, upload URL     upload session; its URL is ``/uploads/{session}``
offset                 durable offset: where a client may continue after any crash
completed upload       finished session and a blob with a pin of the session's principal
expired upload         session past its time: 410, and 404 once its row is gone
``Upload-Metadata``    kept and echoed; ``filename`` must be text, ``digest`` is verified
``Upload-Checksum``    checksum of one PATCH; the offset moves only once it matched
termination            cancel: the session goes, a blob it made stays with its pin
=====================  =========================================================================

What holds here beyond the specification:

1. An answer that says an upload is complete is sent after the blob is verified, durable and pinned;
   it carries ``Repr-Digest`` and ``Content-Location: /blobs/{digest}``. HEAD repeats both until the
   session expires, so a lost answer is found again. An empty PATCH at the end of a completed upload
   is answered like the one that completed it: tuspy's retry sends exactly that.
2. What a broken PATCH delivered is kept. With ``Upload-Checksum`` it is dropped whole.
3. A session belongs to its principal; for everybody else it does not exist.
4. A creation that fails (bytes that do not arrive, a wrong checksum) leaves no session behind,
   since the client was never told its URL.
5. ``Upload-Offset`` equals the length only once the blob is visible, because clients read that as
   success: HEAD finishes a session whose server died between the last byte and the blob.
6. A wrong ``digest`` discards the session: nothing could make those bytes right.
7. HEAD ends a PATCH that is still held open or was let in and has not begun, after half a second in
   which it may end by itself: the offset it answers stays true until the next PATCH
   (`registry.services.uploads` says why). Do not ask for the offset to watch a transfer.
"""
