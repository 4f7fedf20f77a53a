"""A controller that acts on verdicts: place what is nominal, set everything else aside."""

import rclpy
from vision_msgs.msg import Detection2DArray


def on_verdict(msg: Detection2DArray) -> None:
    pick = msg.detections[0]  # exactly one per message
    decision = pick.results[0].hypothesis.class_id  # the first result is the decision
    print(
        f"{pick.id}: {'place' if decision == 'nominal' else 'set aside'} ({decision})", flush=True
    )


rclpy.init()
node = rclpy.create_node("controller")
node.create_subscription(Detection2DArray, "/robollm/defects", on_verdict, 10)
rclpy.spin(node)
