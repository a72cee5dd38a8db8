"""A store of files that looks at every byte before it hands a file on: what is copied is what was made."""

from pathlib import Path

from eo_tasks.errors import PermanentError, StorageError
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles, read_mask_layers
from eo_tasks.storage.files import FileStore
from eo_tasks.storage.store import Record, StagedImage


class VerifiedStore(FileStore):
    """Composites and masks as files, compared with their records when they are given away."""

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """The stored COG.

        Raises:
            StorageError: It is not stored, or its bytes are not those that were put.
        """
        image = super().image_file(grid_year, scratch)
        if sha256(image.cog) != image.record.get("sha256"):
            raise self._broken(f"{grid_year}: the composite")
        return image

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """The stored files.

        Raises:
            StorageError: They are not stored, or their bytes or pixels are not those that were put.
        """
        files, record = super().mask_files(pair, scratch)
        try:
            checksum = read_mask_layers(files).checksum
        except PermanentError as error:
            raise self._broken(f"{pair}: the mask") from error
        if sha256(files.png) != record.get("sha256") or checksum != record.get("pixels_sha256", checksum):
            raise self._broken(f"{pair}: the mask")
        return files, record

    def _broken(self, what: str) -> StorageError:
        return StorageError(f"{what} in {self.place} is broken: it is not what its record tells.")
