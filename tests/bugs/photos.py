"""Bugs of photos."""

from tests.bugs import PACKET_SHARD, Mutant

FLOW, ROUTES, PICTURES = (
    "cluster/gateway/packet/photos.py",
    "cluster/gateway/packet/photo_routes.py",
    "cluster/pictures/render.py",
)
WALLET_SHARD = "actors/wallet/host.py"
PHOTO, ARCHIVE, EDGE = "actors/wallet/photo.py", "cluster/journal/archive.py", "cluster/gateway/middleware/limits.py"
PHOTOS, PROMISE, MADE = "tests/unit/test_photos.py", "tests/unit/test_photos_promise.py", "tests/unit/test_pictures.py"
BACKUP, SAVED = "cluster/offline/backup.py", "tests/unit/test_backup.py"
METADATA, SPLIT = "cluster/pictures/metadata.py", "tests/unit/test_picture_metadata.py"
APART, IN_PROCESS = "cluster/pictures/process.py", "tests/unit/test_picture_process.py"

PHOTO_PACKETS = [
    Mutant(
        "pictures: the walk over a file's chunks is bounded",
        METADATA,
        "    for _ in range(CHUNKS_MAX):\n        if kind ==",
        "    for _ in range(10**9):\n        if kind ==",
        (SPLIT,),
    ),
    Mutant(
        "pictures: a profile of other colours counts as none",
        PICTURES,
        "if picture.mode in taken:",
        "if picture.mode:",
        (SPLIT,),
    ),
    Mutant(
        "pictures: a process that used up its time refuses, and is not our fault",
        APART,
        "if done.returncode in _ENDED_BY_BOUNDS:",
        "if done.returncode == 1:",
        (IN_PROCESS,),
    ),
    Mutant(
        "photos: nobody sees clearly who has not paid",
        FLOW,
        "and await self.payment(photo, reader) is None:",
        "and await self.payment(photo, reader) is False:",
        (PROMISE,),
    ),
    Mutant(
        "photos: nothing but its routes leads to a picture",
        "cluster/gateway/app.py",
        "redirect_slashes=False",
        "redirect_slashes=True",
        (PROMISE, "tests/unit/test_strict.py"),
    ),
    Mutant(
        "photos: what names a photo is an id, never a path",
        FLOW,
        "self._find(reader.tenant, photo_id) if is_photo_id(photo_id) else None",
        "self._find(reader.tenant, photo_id.lower()) if is_photo_id(photo_id.lower()) else None",
        (PROMISE,),
    ),
    Mutant("photos: no cache keeps a picture", ROUTES, '"private, no-store"', '"private"', (PROMISE,)),
    Mutant(
        "photos: a price opens and is taken in one step",
        PACKET_SHARD,
        '        if funding.kind == "photo":\n',
        "        if False:\n",
        (PHOTOS,),
    ),
    Mutant(
        "photos: a price is taken however late",
        PACKET_SHARD,
        '        if funding.kind == "photo":\n',
        '        if funding.kind == "photo" and shell.now_ms() < funding.expires_at_ms:\n',
        (PHOTOS,),
    ),
    Mutant(
        "photos: no client's key names a payment",
        "actors/transfers/ids.py",
        'b"rain-id", b"photo-payment", b"commitment-id"\n',
        'b"rain-id", b"packet-id", b"commitment-id"\n',
        (PHOTOS,),
    ),
    Mutant(
        "photos: a price is not the limits' concern any more",
        WALLET_SHARD,
        "domain = send.total_fen, send.total_fen, PHOTO_PAYMENT\n",
        "domain = share_fen_min, share_fen_max, PHOTO_PAYMENT\n",
        (PHOTOS,),
    ),
    Mutant(
        "photos: who has paid pays nothing again, when his wallet has forgotten it too",
        FLOW,
        "        if paid is not None:\n",
        "        if paid is False:\n",
        (PHOTOS,),
    ),
    Mutant(
        "photos: nobody pays less than his price, or more",
        FLOW,
        "if price_fen != due_fen:",
        "if price_fen < due_fen:",
        (PHOTOS,),
    ),
    Mutant("photos: nobody pays for his own", FLOW, "if payer.user == photo.owner:", 'if payer.user == "":', (PHOTOS,)),
    Mutant(
        "photos: a price may be the greatest of its band",
        PHOTO,
        "fen_max - fen_min + 1)",
        "fen_max - fen_min)",
        (PHOTOS,),
    ),
    Mutant(
        "photos: statements tell a price from a packet",
        "actors/ledger/transfer.py",
        ', "photo": "photo_paid"}',
        "}",
        (PHOTOS,),
    ),
    Mutant(
        "photos: a photo is there once all of it is",
        FLOW,
        '        self._place.write(photo.path("clear"), made.clear)\n',
        "        self._place.create(_record(photo.tenant, photo.photo_id), _ENCODE(photo))\n"
        '        self._place.write(photo.path("clear"), made.clear)\n',
        (PHOTOS,),
    ),
    Mutant(
        "photos: of two replicas that make one photo, the first is right",
        ARCHIVE,
        "content, place=os.link)",
        "content, place=os.replace)",
        (PHOTOS,),
    ),
    Mutant(
        "photos: a key belongs to one picture and band",
        FLOW,
        "if (photo.sha256, photo.price_fen_min, photo.price_fen_max) != (sha256, *band):",
        "if photo.sha256 != sha256:",
        (PHOTOS,),
    ),
    Mutant(
        "photos: uploads under way are bounded",
        FLOW,
        "        self._uploading.add(*owner)\n",
        "        self._uploading.add(*owner, 0)\n",
        (PHOTOS,),
    ),
    Mutant(
        "photos: an upload's bytes are bounded",
        EDGE,
        "Body.PHOTO: (bounds.photo_bytes_max,",
        "Body.PHOTO: (2 * bounds.photo_bytes_max,",
        (PHOTOS,),
    ),
    Mutant(
        "photos: pixels are counted before they are decoded",
        PICTURES,
        "if width * height <= pixels_max and ",
        "if ",
        (MADE,),
    ),
    Mutant("photos: scans are counted before they are decoded", PICTURES, "> SCANS_MAX:", "< 0:", (MADE,)),
    Mutant(
        "photos: a picture is larger than its blurred one", PICTURES, "min(width, height) >= SIDE_MIN and ", "", (MADE,)
    ),
    Mutant(
        "photos: the blurred picture tells averages",
        PICTURES,
        "blurred = averages.resize",
        "blurred = picture.resize",
        (MADE,),
    ),
    Mutant(
        "photos: a picture is turned as its EXIF says",
        PICTURES,
        "return plain if orientation == UPRIGHT else plain.transpose(_TURNS[orientation])",
        "return plain",
        (MADE,),
    ),
    Mutant(
        "photos: nothing but pixels is left of an upload",
        METADATA,
        "or marker == _COMMENT)",
        "or marker == 0)",
        (SPLIT,),
    ),
    Mutant(
        "photos: a backup holds whole ones", BACKUP, "            if PHOTO in names:", "            if names:", (SAVED,)
    ),
    Mutant(
        "photos: a damaged picture of a backup is named",
        BACKUP,
        '_read(places.backup, File(f"photos/{path}", sha256))',
        'places.backup.read(f"photos/{path}") or b""',
        (SAVED,),
    ),
]
