"""The gallery in use: kept up to date beside the node's work, told of in its diagnostics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rclpy.subscription import Subscription
from rclpy.task import Future
from std_msgs.msg import String

from robollm.core.errors import GalleryError, ManifestError, MessageError, RobollmError
from robollm.core.settings import IdentificationConfig
from robollm.gallery.catalogue import Catalogue, CatalogueSource
from robollm.gallery.keeper import Keeper, Sight
from robollm.gallery.plan import SearchPlan
from robollm.gallery.updates import ManifestUpdate
from robollm.nodes import qos
from robollm.nodes.health import WARN, Report
from robollm.runtime.perceiver import Perceiver

if TYPE_CHECKING:
    from robollm.nodes.base import PerceptionNode

LATE_S = 10.0  # more than the opening of a large gallery takes


class GalleryDesk:
    """One node's catalogue and its keeper, the topic `manifest`, and what there is to tell.

    The keeper calls the methods of `robollm.gallery.keeper.Listener` from its thread; counters and
    logs may be used from there.

    Args:
        node: the node that owns the subscription.
        perceiver: whose embeddings are searched.

    Raises:
        ManifestError: see `CatalogueSource`.
        GalleryError: see `CatalogueSource.load`.
    """

    def __init__(self, node: PerceptionNode, perceiver: Perceiver) -> None:
        self._node, self._perceiver = node, perceiver
        config, bundle = node.settings(IdentificationConfig), perceiver.bundle
        source = CatalogueSource(
            config.manifest,
            config.gallery,
            embedding_sha256=bundle.embedding_sha256,
            bundle=bundle.title,
            search=SearchPlan(product_score=config.product_score, whole=config.whole_search),
        )
        first = source.load()
        self._period_s, self._folder = config.watch_period_s, source.folder
        self._facts = _facts(first)
        self._tell(first)
        self._keeper = Keeper(
            source, first, period_s=config.watch_period_s, watch=self._watched, listener=self
        )
        # Last: a message may come at once.
        self._sub: Subscription[String] = node.ears.subscribe(
            String, "manifest", self._take, qos.UPDATES
        )

    @property
    def catalogue(self) -> Catalogue:
        """What is in use at this moment."""
        return self._keeper.catalogue

    def sight(self) -> Sight:
        """What is in use at this moment, for a job that is done later."""
        return self._keeper.sight()

    def close(self) -> None:
        """Commit what waits, end the keeper."""
        self._node.ears.close(self._sub)
        if not self._keeper.close():
            self._node.get_logger().error(
                f"gallery {self._folder} does not answer: its thread is left behind\n"
                "  fix: look at its disk; restart the node"
            )
            return
        self._keeper.catalogue.gallery.close()
        # Both refer back to this desk: its models would wait for the garbage collector.
        del self._keeper, self._sub

    async def reload(self) -> tuple[bool, str]:
        """Look for changes now. Other callbacks go on meanwhile.

        Returns:
            Whether all could be read, and what is in use, in words.
        """
        done: Future[Sequence[Exception]] = Future()
        self._keeper.ask(done.set_result)
        errors = await done
        if errors:
            return False, "; ".join(f"{_kept(e)} stays in use: {e}" for e in errors)
        return True, _size(self.catalogue)

    def report(self, report: Report) -> None:
        """Add what is known of gallery and manifests."""
        catalogue, keeper = self.catalogue, self._keeper
        gallery = catalogue.gallery
        report.put("gallery_products", len(gallery.products))
        report.put("manifest_containers", len(catalogue.manifests.containers))
        report.put("products_without_reference", len(catalogue.without_reference()))
        report.put("gallery_generation", gallery.generation)
        report.put_all("gallery_", self._facts)
        report.put("gallery_plan", gallery.plan)
        report.put("gallery_advice", gallery.advice or "none")
        config = self._node.settings(IdentificationConfig)
        report.put("calibration", self._perceiver.policy(config, gallery)[1])
        report.put_all("elsewhere_", dict(self._perceiver.naming.elsewhere))
        age_s = time.monotonic() - keeper.checked_s
        report.put("gallery_age_s", age_s)
        report.put("manifest_updates_waiting", keeper.waiting)
        if keeper.trouble:
            report.problems.append((WARN, f"gallery as of {age_s:.0f} s ago: {keeper.trouble}"))
        elif self._watched() and age_s > LATE_S + 2 * self._period_s:
            text = f"gallery {self._folder} was last looked at {age_s:.0f} s ago"
            report.problems.append((WARN, text))
        if keeper.waiting_s > LATE_S:
            text = f"{keeper.waiting} manifest updates wait for another writer"
            report.problems.append((WARN, text))

    # Called by the keeper, in its thread.

    def catalogue_changed(self, new: Catalogue) -> None:
        """See `Listener`."""
        self._facts = _facts(new)
        self._node.stats.count("reloads")
        self._node.get_logger().info(f"in use: {_size(new)}", throttle_duration_sec=5.0)

    def refresh_failed(self, error: Exception) -> None:
        """See `Listener`."""
        if isinstance(error, RobollmError):
            self._node.stats.count("reload_failed")
            self._node.get_logger().error(f"reload failed, {_kept(error)} stays in use: {error}")
        else:
            self._node.trouble.crashed("gallery", error)

    def update_committed(self, update: ManifestUpdate, generation: int) -> None:
        """See `Listener`."""
        self._node.stats.count("manifest_updates")
        self._node.get_logger().info(f"manifest: {update.title}, generation {generation}")

    def update_refused(self, error: Exception) -> None:
        """See `Listener`."""
        if isinstance(error, RobollmError):
            refusal = MessageError(error.what, kind="manifest_refused", fix=error.fix)
            self._node.refuse("manifest", refusal)
        else:
            self._node.trouble.crashed("manifest", error)

    def _take(self, msg: String) -> None:
        self._keeper.submit(msg.data)

    def _watched(self) -> bool:
        return bool(self._node.get_parameter("watch").value)

    def _tell(self, loaded: Catalogue) -> None:
        self._node.get_logger().info(_size(loaded))
        bare = loaded.without_reference()
        if bare:
            self._node.get_logger().warning(
                f"{len(bare)} products have no reference and can never be identified: "
                f"{', '.join(bare[:5])}{' ...' if len(bare) > 5 else ''}"
            )
        if not loaded.manifests.containers:
            self._node.get_logger().warning(
                "the gallery keeps no containers: all is unknown\n"
                "  fix: send them on the topic `manifest`, or set the parameter `manifest`"
            )


def _facts(catalogue: Catalogue) -> dict[str, object]:
    """What takes a look at the disk: never asked in a callback."""
    try:
        card = catalogue.gallery.card
    except GalleryError as e:  # gone in this moment; the next look tells
        return {"unreadable": e.what}
    except OSError as e:  # a file of another writer that was there a moment ago
        return {"unreadable": str(e)}
    slots = card.removed + card.references
    return {
        "references": card.references,
        "removed_share": card.removed / max(slots, 1),
        "bytes_on_disk": card.bytes_on_disk,
    }


def _kept(error: Exception) -> str:
    return "the old manifest" if isinstance(error, ManifestError) else "the old gallery"


def _size(catalogue: Catalogue) -> str:
    gallery, boxes = catalogue.gallery, len(catalogue.manifests.containers)
    return (
        f"{len(gallery.products)} products with references, {boxes} containers loaded, "
        f"generation {gallery.generation}"
    )
